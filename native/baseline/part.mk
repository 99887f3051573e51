# The oldest C libraries that a shim loads into: glibc 2.17 and musl, one binary for both. A shim is linked against libc.def's list of what they
# have in common, not against the C library of this machine. docs/adr/0013-portability-baseline.md
BASELINE_DIR := $(BUILD)/baseline

$(BASELINE_DIR)/%.so: baseline/library.S baseline/libc.def baseline/versions.map
	@mkdir -p $(@D)
	$(CC) -shared -nostdlib -DLIBRARY_$(LIBRARY) -Ibaseline -Wl,-soname,$(SONAME) -Wl,--version-script,baseline/versions.map -o $@ $<

$(BASELINE_DIR)/c.so: LIBRARY := C
$(BASELINE_DIR)/c.so: SONAME := libc.so.6
$(BASELINE_DIR)/dl.so: LIBRARY := DL
$(BASELINE_DIR)/dl.so: SONAME := libdl.so.2
$(BASELINE_DIR)/pthread.so: LIBRARY := PTHREAD
$(BASELINE_DIR)/pthread.so: SONAME := libpthread.so.0

BASELINE_LIBRARIES := $(BASELINE_DIR)/c.so $(BASELINE_DIR)/dl.so $(BASELINE_DIR)/pthread.so

# A sanitizer brings a runtime, which is linked against this machine's C library: such a build is for this machine alone.
ifeq ($(SANITIZE),)
BASELINE := $(BUILD)/baseline/nonshared.o $(BASELINE_LIBRARIES)
BASELINE_LINK := -nodefaultlibs -Wl,--as-needed $(BASELINE_LIBRARIES) -lgcc
# What a distribution's compiler adds by default and older C libraries lack.
BASELINE_CFLAGS := -U_FORTIFY_SOURCE -fno-stack-protector
else
BASELINE :=
BASELINE_LINK := -ldl -lpthread
BASELINE_CFLAGS :=
endif
