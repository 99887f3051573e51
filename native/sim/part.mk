# The simulated drivers: NVIDIA's libcuda.so.1 and libnvidia-ml.so.1, Huawei's libdcmi.so, Intel's libze_loader.so.1, AMD's
# libamd_smi.so, and OpenCL platforms;
# and the engine's books alone, for readers.
SIM_BUILD := $(BUILD)/sim
SIM_ENGINE := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/engine/*.c))
SIM_CUDA := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/cuda/*.c))
SIM_NVML := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/nvml/*.c))
SIM_DCMI := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/dcmi/*.c))
SIM_LEVEL_ZERO := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/level_zero/*.c))
SIM_AMDSMI := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/amdsmi/*.c))
SIM_OPENCL := $(patsubst %.c,$(BUILD)/%.o,$(wildcard sim/opencl/*.c))

$(BUILD)/sim/%.o: CPPFLAGS := -D_GNU_SOURCE

# -Bsymbolic: a shim preloaded in front must not be found by the driver's own tables.
SIM_LINK = $(CC) -shared -Wl,-Bsymbolic -Wl,-z,now -Wl,--no-undefined $(LDFLAGS)

$(LIB)/sim/libcuda.so.1: $(SIM_CUDA) $(SIM_ENGINE) sim/cuda/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libcuda.so.1 -Wl,--version-script=sim/cuda/exports.map -o $@ $(SIM_CUDA) $(SIM_ENGINE) -pthread

$(LIB)/sim/libnvidia-ml.so.1: $(SIM_NVML) $(SIM_ENGINE) sim/nvml/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libnvidia-ml.so.1 -Wl,--version-script=sim/nvml/exports.map -o $@ $(SIM_NVML) $(SIM_ENGINE) -pthread

$(LIB)/sim/libdcmi.so: $(SIM_DCMI) $(SIM_ENGINE) sim/dcmi/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libdcmi.so -Wl,--version-script=sim/dcmi/exports.map -o $@ $(SIM_DCMI) $(SIM_ENGINE) -pthread

$(LIB)/sim/libze_loader.so.1: $(SIM_LEVEL_ZERO) $(SIM_ENGINE) sim/level_zero/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libze_loader.so.1 -Wl,--version-script=sim/level_zero/exports.map -o $@ $(SIM_LEVEL_ZERO) $(SIM_ENGINE) -pthread

# Apart from the libraries that programs of a slice find: only who is told to loads it.
$(LIB)/sim/rocm/lib/libamd_smi.so: $(SIM_AMDSMI) $(SIM_ENGINE) sim/amdsmi/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libamd_smi.so -Wl,--version-script=sim/amdsmi/exports.map -o $@ $(SIM_AMDSMI) $(SIM_ENGINE) -pthread

$(LIB)/sim/libmica-sim-books.so: $(SIM_ENGINE) sim/engine/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libmica-sim-books.so -Wl,--version-script=sim/engine/exports.map -o $@ $(SIM_ENGINE) -pthread

$(LIB)/sim/libmica-sim-opencl.so: $(SIM_OPENCL) sim/opencl/exports.map
	@mkdir -p $(@D)
	$(SIM_LINK) -Wl,-soname,libmica-sim-opencl.so -Wl,--version-script=sim/opencl/exports.map -o $@ $(SIM_OPENCL)

ALL += $(LIB)/sim/libmica-sim-opencl.so $(LIB)/sim/libdcmi.so $(LIB)/sim/libze_loader.so.1 $(LIB)/sim/rocm/lib/libamd_smi.so
ALL += $(LIB)/sim/libcuda.so.1 $(LIB)/sim/libnvidia-ml.so.1 $(LIB)/sim/libmica-sim-books.so

SIM_TEST := $(BUILD)/tests/sim_engine_test
TESTS += $(SIM_TEST)

$(SIM_TEST).o: CPPFLAGS := -D_GNU_SOURCE
$(SIM_TEST): $(SIM_TEST).o $(SIM_ENGINE)
	$(CC) $(LDFLAGS) $^ -pthread -o $@
