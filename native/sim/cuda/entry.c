/* SPDX-License-Identifier: Apache-2.0
 *
 * The way in: initialisation, the driver lock, errors, and looking functions up by name.
 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"
#include "refused.h"

pthread_mutex_t sim_driver_lock = PTHREAD_MUTEX_INITIALIZER;

/* A child of an initialised process has no driver: like the real one, ours refuses to work there. */
static _Atomic enum { DRIVER_NEW, DRIVER_READY, DRIVER_FORKED } stage;

static void in_child(void)
{
    pthread_mutex_init(&sim_driver_lock, NULL);
    stage = DRIVER_FORKED;
}

CUresult sim_driver_leave(CUresult result)
{
    pthread_mutex_unlock(&sim_driver_lock);
    return result;
}

CUresult sim_driver_ready(void)
{
    /* Acquire: pairs with the release in cuInit; what it made is there. */
    if (__builtin_expect(atomic_load_explicit(&stage, memory_order_acquire) != DRIVER_READY, 0))
        return CUDA_ERROR_NOT_INITIALIZED;
    return __builtin_expect(sim_gate_is_ours, 0) ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
}

CUresult sim_driver_enter(void)
{
    CUresult ready = sim_driver_ready();
    if (ready != CUDA_SUCCESS)
        return ready;
    pthread_mutex_lock(&sim_driver_lock);
    sim_checkpoint_pass();
    return __builtin_expect(sim_checkpoint_failed, 0) ? sim_driver_leave(CUDA_ERROR_UNKNOWN) : CUDA_SUCCESS;
}

void sim_driver_relock(void)
{
    pthread_mutex_lock(&sim_driver_lock);
    sim_checkpoint_pass();
}

static CUresult initialize(void)
{
    if (sim_engine_open())
        return CUDA_ERROR_NO_DEVICE;
    CUresult found = sim_visible_find();
    if (found != CUDA_SUCCESS)
        return found;
    if (sim_process_register(sim_client_find()) < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    sim_checkpoint_start();
    pthread_atfork(NULL, NULL, in_child);
    /* Release: pairs with the acquire in sim_driver_ready. */
    atomic_store_explicit(&stage, DRIVER_READY, memory_order_release);
    return CUDA_SUCCESS;
}

CUresult cuInit(unsigned flags)
{
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&sim_driver_lock);
    CUresult result = CUDA_SUCCESS;
    if (stage == DRIVER_FORKED)
        result = CUDA_ERROR_NOT_INITIALIZED;
    else if (stage == DRIVER_NEW)
        result = initialize();
    return sim_driver_leave(result);
}

CUresult cuDriverGetVersion(int *version)
{
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    if (sim_engine_open())
        return CUDA_ERROR_NO_DEVICE;
    *version = (int)sim_node()->cuda_version;
    return CUDA_SUCCESS;
}

CUresult cuProfilerStart(void)
{
    return CUDA_SUCCESS;
}
CUresult cuProfilerStop(void)
{
    return CUDA_SUCCESS;
}

/* NVIDIA's tables are undocumented and in part keyed; a simulated driver has none, and answers no such check. */
CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
    if (!table || !id)
        return CUDA_ERROR_INVALID_VALUE;
    *table = NULL;
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* --- Errors -------------------------------------------------------------------------------------------------------------- */

static const struct {
    CUresult value;
    const char *name, *text;
} results[] = {
#define RESULT_ROW(name, number, text) {CUDA_##name, "CUDA_" #name, text},
    CUDA_RESULTS(RESULT_ROW)};

static CUresult describe(CUresult error, const char **out, bool name)
{
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (results[i].value == error) {
            *out = name ? results[i].name : results[i].text;
            return CUDA_SUCCESS;
        }
    *out = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    return describe(error, text, false);
}

CUresult cuGetErrorName(CUresult error, const char **text)
{
    return describe(error, text, true);
}

/* --- Look-up by name ------------------------------------------------------------------------------------------------------ */

#define REFUSED_DEFINITION(symbol, name, since, variant)                                                                                   \
    __attribute__((visibility("default"))) CUresult symbol(void);                                                                          \
    CUresult symbol(void)                                                                                                                  \
    {                                                                                                                                      \
        return CUDA_ERROR_NOT_SUPPORTED;                                                                                                   \
    }
CUDA_REFUSED(REFUSED_DEFINITION)

typedef void (*sim_any_function)(void);

static const struct sim_symbol {
    const char *name;
    int since;
    enum sim_variant variant;
    sim_any_function function;
} symbols[] = {
#define MODELLED_ROW(symbol, name, since, variant, parameters) {#name, since, VARIANT_##variant, (sim_any_function)symbol},
#define REFUSED_ROW(symbol, name, since, variant) {#name, since, VARIANT_##variant, (sim_any_function)symbol},
    CUDA_SYMBOLS(MODELLED_ROW) CUDA_REFUSED(REFUSED_ROW)};

/* Names can be looked up before there is a node: cuInit then says what is wrong with it. */
static int cuda_version(void)
{
    return sim_engine_open() ? 13000 : (int)sim_node()->cuda_version;
}

/* The newest form not newer than `version`; with `per_thread`, a per-thread form goes before a plain one. */
static const struct sim_symbol *look_up(const char *name, int version, bool per_thread, bool *known)
{
    const struct sim_symbol *best = NULL;
    int newest = cuda_version();
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        const struct sim_symbol *symbol = &symbols[i];
        if (strcmp(symbol->name, name) || symbol->since > newest ||
            (symbol->variant == VARIANT_PER_THREAD && !per_thread))
            continue;
        *known = true;
        if (symbol->since > version)
            continue;
        if (!best || symbol->variant > best->variant || (symbol->variant == best->variant && symbol->since > best->since))
            best = symbol;
    }
    return best;
}

CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    if (!name || !function || flags > 3)
        return CUDA_ERROR_INVALID_VALUE;
    *function = NULL;
    if (version > cuda_version())
        return CUDA_ERROR_INVALID_VALUE;
    bool known = false;
    const struct sim_symbol *symbol = look_up(name, version, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &known);
    if (symbol)
        memcpy(function, &symbol->function, sizeof *function);
    if (status)
        *status = symbol  ? CU_GET_PROC_ADDRESS_SUCCESS
                  : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                          : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return symbol ? CUDA_SUCCESS : status ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
