# The packing kernel: the Python binding compiles its sources; here it is for C tests and sanitizers.
PACKING_SOURCES := $(sort $(wildcard packing/*.c))
PACKING_OBJECTS := $(PACKING_SOURCES:%.c=$(BUILD)/%.o)
PACKING_TESTS := $(BUILD)/packing/tests/packing_test $(BUILD)/packing/tests/moves_test

$(PACKING_OBJECTS): CPPFLAGS += -Ipacking
$(PACKING_OBJECTS): CFLAGS += -ffp-contract=off -fno-trapping-math

TESTS += $(PACKING_TESTS)

$(PACKING_TESTS): %: %.o $(PACKING_OBJECTS)
	$(CC) $(LDFLAGS) $^ -lm -o $@
