# The shims: libraries with the vendors' SONAMEs, which are loaded in their place inside a slice.
SHIM_DIR := $(LIB)/shim
SHIM_CORE := $(BUILD)/shim/libmica-shim.a
SHIM_LDFLAGS = -shared -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,-z,defs -Wl,--gc-sections

# Thread-local words are few; static addressing of them keeps the launch path free of calls into the loader.
$(BUILD)/shim/%.o: CFLAGS += -ftls-model=initial-exec -ffunction-sections

# A shim is its own hooks, the stubs of its symbol list, the core and the regions.
$(BUILD)/shim/%/pass.o: shim/core/pass.S shim/%/symbols.def
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -DMICA_SYMBOLS='"$(CURDIR)/shim/$*/symbols.def"' -c $< -o $@

$(SHIM_CORE): $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard shim/core/*.c)))
	@rm -f $@
	$(AR) rcs $@ $^

define SHIM
$(SHIM_DIR)/$(2): $(BUILD)/shim/$(1)/pass.o $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard shim/$(1)/*.c))) $(SHIM_CORE) $(REGION_LIB) $(BASELINE) shim/$(1)/$(2:.so.1=.map)
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) $$(LDFLAGS) $$(SHIM_LDFLAGS) -Wl,-soname,$(2) -Wl,--version-script,shim/$(1)/$(2:.so.1=.map) -o $$@ $$(filter %.o %.a,$$^) $(BASELINE_LINK)

# What some programs ask for first, and machines with development packages have: the name without a version. Here it is a library that holds nothing,
# and needs the shim, which lies beside it. Preloaded like the shim, or found in its place, it leads there.
$(SHIM_DIR)/$(2:.so.1=.so): $(SHIM_DIR)/$(2)
	$$(CC) -nostdlib -shared -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,--no-as-needed -Wl,-soname,$(2:.so.1=.so) -Wl,--enable-new-dtags -Wl,-rpath,'$$$$ORIGIN' -o $$@ $$<
ALL += $$(SHIM_DIR)/$(2) $$(SHIM_DIR)/$(2:.so.1=.so)
endef

$(eval $(call SHIM,cuda,libcuda.so.1))
$(eval $(call SHIM,nvml,libnvidia-ml.so.1))

# The OpenCL layer: a library of its own name, which the OpenCL loader is told of. It is nobody's stand-in, so it has no stubs.
OPENCL_LAYER := $(SHIM_DIR)/libmica-opencl.so
$(OPENCL_LAYER): $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard shim/opencl/*.c))) $(SHIM_CORE) $(REGION_LIB) $(BASELINE) shim/opencl/libmica-opencl.map
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(SHIM_LDFLAGS) -Wl,-soname,libmica-opencl.so -Wl,--version-script,shim/opencl/libmica-opencl.map -o $@ $(filter %.o %.a,$^) $(BASELINE_LINK)
ALL += $(OPENCL_LAYER)

# Tests: of the core by itself, and of the CUDA shim over a driver that is small enough to be certain of.
SHIM_TESTS := $(BUILD)/shim/tests
SHIM_FAKE := $(SHIM_TESTS)/fake/libcuda.so.1
SHIM_FAKE_NVML := $(SHIM_TESTS)/fake_nvml/libnvidia-ml.so.1
SHIM_TRUNCATING := $(SHIM_TESTS)/truncating.so
SHIM_PATHS = -DSHIM_PATH='"$(SHIM_DIR)/libcuda.so.1"' -DFAKE_PATH='"$(SHIM_FAKE)"' -DFAKE_NVML_PATH='"$(SHIM_FAKE_NVML)"' -DTRUNCATING_PATH='"$(SHIM_TRUNCATING)"' -DLAYER_PATH='"$(OPENCL_LAYER)"'

$(SHIM_FAKE): $(BUILD)/shim/tests/fake_cuda.o $(BUILD)/shim/tests/fake_work.o $(BUILD)/shim/tests/fake_pool.o $(BUILD)/shim/tests/fake_context.o $(BASELINE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-Bsymbolic -Wl,-soname,libcuda.so.1 -o $@ $(filter %.o,$^) $(BASELINE_LINK)

$(SHIM_FAKE_NVML): $(BUILD)/shim/tests/fake_nvml.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libnvidia-ml.so.1 -o $@ $^

$(SHIM_TRUNCATING): $(BUILD)/shim/tests/truncating.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $^

$(SHIM_TESTS)/%.o: CFLAGS += $(SHIM_PATHS)

$(SHIM_TESTS)/%: $(BUILD)/shim/tests/%.o $(SHIM_CORE) $(REGION_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -ldl -lpthread

# The same programs for any loader of the baseline, which runs them by MICA_LOADER (see again.h): `make baseline-tests`.
BASELINE_TESTS := $(patsubst %,$(BASELINE_DIR)/tests/%_test,live cost passthrough enforce spatial launch)
$(BASELINE_DIR)/tests/%: $(BUILD)/shim/tests/%.o $(SHIM_CORE) $(REGION_LIB) $(BASELINE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(BASELINE_LINK)

# The OpenCL layer's over a target of theirs, which is a part of each program: a loader's place is taken by the test.
OPENCL_TESTS := $(patsubst %,$(SHIM_TESTS)/opencl_%_test,memory work table)
OPENCL_FAKE := $(patsubst %,$(BUILD)/shim/tests/fake_opencl%.o, _memory _work) $(BUILD)/shim/tests/fake_opencl.o
$(OPENCL_TESTS): $(OPENCL_FAKE) | $(OPENCL_LAYER)

.PHONY: baseline-tests
baseline-tests: $(BASELINE_TESTS) $(SHIM_FAKE) $(SHIM_DIR)/libcuda.so.1 $(SHIM_DIR)/libcuda.so

$(SHIM_TESTS)/passthrough_test $(SHIM_TESTS)/enforce_test $(SHIM_TESTS)/spatial_test $(SHIM_TESTS)/launch_test $(SHIM_TESTS)/stopped_test $(SHIM_TESTS)/footprint_test $(SHIM_TESTS)/lost_test: | $(SHIM_FAKE) $(SHIM_DIR)/libcuda.so.1

$(SHIM_TESTS)/passthrough_test: | $(SHIM_DIR)/libcuda.so
$(SHIM_TESTS)/footprint_test: | $(SHIM_FAKE_NVML)
$(SHIM_TESTS)/lost_test: | $(SHIM_TRUNCATING)

TESTS += $(patsubst %,$(SHIM_TESTS)/%_test,live live_interleave map cost share passthrough enforce spatial launch stopped footprint lost) $(OPENCL_TESTS)
