# Tests of the region library: one program for each region_<subject>_test.c.
REGION_TEST_SOURCES := $(sort $(wildcard tests/region_*_test.c))
REGION_TESTS := $(REGION_TEST_SOURCES:%.c=$(BUILD)/%)

TESTS += $(REGION_TESTS)

$(REGION_TESTS): $(BUILD)/%: $(BUILD)/%.o $(REGION_LIB)
	$(CC) $(LDFLAGS) $< $(REGION_LIB) -pthread -o $@
