# The bench of `mica bench shim`: a program that times calls, and a driver that costs next to nothing below them.
BENCH_DIR := $(LIB)/bench

$(BENCH_DIR)/call_cost: bench/call_cost.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< -ldl

# Few segments: opening it costs little, too.
$(BENCH_DIR)/libcuda.so.1: bench/driver.c bench/refused.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -shared -Wl,-Bsymbolic -Wl,-z,now -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-soname,libcuda.so.1 -o $@ $(filter %.c,$^)

ALL += $(BENCH_DIR)/call_cost $(BENCH_DIR)/libcuda.so.1

# The tenants of `mica bench isolation`.
$(BENCH_DIR)/tenant: bench/tenant.c bench/program.c bench/program.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) -ldl

# The inference server of `mica bench slo`.
$(BENCH_DIR)/server: bench/server.c bench/program.c bench/program.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) -ldl

ALL += $(BENCH_DIR)/tenant $(BENCH_DIR)/server
