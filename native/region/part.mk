# The region library: linked into shims and C tests; the Python binding compiles the same files.
REGION_SOURCES := $(sort $(wildcard region/*.c))
REGION_OBJECTS := $(REGION_SOURCES:%.c=$(BUILD)/%.o)
REGION_LIB := $(BUILD)/region/libmica-region.a

ALL += $(REGION_LIB)

$(REGION_LIB): $(REGION_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^
