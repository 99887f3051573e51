# Chaos: programs of a slice that are killed, over the simulated driver. `make test` kills a few hundred, `make proofs` thousands.
CHAOS := $(BUILD)/chaos
CHAOS_PATHS = -DSHIM_PATH='"$(SHIM_DIR)/libcuda.so.1"' -DSIM_PATH='"$(LIB)/sim/libcuda.so.1"' -DVICTIM_PATH='"$(CHAOS)/victim"'

$(CHAOS)/%.o: CFLAGS += $(CHAOS_PATHS)

$(CHAOS)/victim: $(BUILD)/chaos/victim.o $(REGION_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -ldl

$(CHAOS)/kill_test $(CHAOS)/overshoot_test: $(CHAOS)/%: $(BUILD)/chaos/%.o $(BUILD)/chaos/harness.o $(REGION_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -ldl

$(CHAOS)/kill_test $(CHAOS)/overshoot_test: | $(CHAOS)/victim $(SHIM_DIR)/libcuda.so.1 $(LIB)/sim/libcuda.so.1

.PHONY: chaos
chaos: $(CHAOS)/kill_test
	CHAOS_KILLS=$(CHAOS_KILLS) $<

ifeq ($(SANITIZE),) # what is killed at random has no use for a sanitizer, and a preloaded runtime makes each start slow
TESTS += $(CHAOS)/kill_test $(CHAOS)/overshoot_test
endif
