/* SPDX-License-Identifier: Apache-2.0
 *
 * Modules and kernels. Nothing is compiled: an image must look like PTX, a cubin or a fat binary, and a kernel must be
 * among its entries where these can be read (PTX and cubins; a fat binary may be compressed, so any name is in it).
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define FATBIN_MAGIC 0xBA55ED50u
#define FATBIN_WRAPPER_MAGIC 0x466243b1u

static struct sim_function *functions; /* of all modules: at most one per module and name */
static struct sim_module *modules;

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' || c == '%' || c == '.';
}

/* Names after `.entry`, zero-separated and ended by an empty one. */
static char *ptx_names(const char *text)
{
    char *names = calloc(1, strlen(text) + 2), *out = names;
    for (const char *at = text; names && (at = strstr(at, ".entry"));) {
        at += 6;
        at += strspn(at, " \t\r\n");
        while (name_byte(*at))
            *out++ = *at++;
        *out++ = 0;
    }
    return names;
}

/* What follows `.text.` in the names of a cubin's sections. */
static char *cubin_names(const unsigned char *image)
{
    Elf64_Ehdr header;
    memcpy(&header, image, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shstrndx >= header.e_shnum)
        return NULL;
    const unsigned char *sections = image + header.e_shoff;
    Elf64_Shdr strings, section;
    memcpy(&strings, sections + header.e_shstrndx * sizeof strings, sizeof strings);
    char *names = calloc(1, strings.sh_size + 2), *out = names;
    for (unsigned i = 0; names && i < header.e_shnum; i++) {
        memcpy(&section, sections + i * sizeof section, sizeof section);
        if (section.sh_name >= strings.sh_size)
            continue;
        const char *name = (const char *)image + strings.sh_offset + section.sh_name;
        if (!strncmp(name, ".text.", 6) && name[6]) {
            strcpy(out, name + 6);
            out += strlen(out) + 1;
        }
    }
    return names;
}

/* CUDA_SUCCESS with the names, or with none where they cannot be told. */
static CUresult inspect(const void *image, char **names)
{
    uint32_t magic;
    *names = NULL;
    memcpy(&magic, image, sizeof magic);
    if (magic == FATBIN_MAGIC || magic == FATBIN_WRAPPER_MAGIC)
        return CUDA_SUCCESS;
    if (!memcmp(image, ELFMAG, SELFMAG))
        return (*names = cubin_names(image)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
    const unsigned char *bytes = image;
    for (int i = 0; i < 4; i++)
        if ((bytes[i] < 0x20 && !strchr("\t\r\n", bytes[i])) || bytes[i] > 0x7e)
            return CUDA_ERROR_INVALID_IMAGE;
    if (!strstr(image, ".version"))
        return CUDA_ERROR_INVALID_PTX;
    return (*names = ptx_names(image)) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* What its code and variables take of the device. A library is loaded where it is first needed: here, the current context. */
static CUresult pay(CUmodule module)
{
    uint64_t bytes = sim_node()->module_bytes;
    CUcontext payer = module->context ? module->context : sim_context_current();
    if (!bytes || !payer || !sim_marked(payer, MARK_CONTEXT))
        return CUDA_SUCCESS;
    if (sim_footprint_add(sim_context_account(payer), bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    module->payer = payer;
    return CUDA_SUCCESS;
}

static void refund(CUmodule module)
{
    if (module->payer)
        sim_footprint_sub(sim_context_account(module->payer), sim_node()->module_bytes);
    module->payer = NULL;
}

static CUresult load(CUmodule *module, const void *image, CUcontext context)
{
    char *names;
    if (!module || !image)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = inspect(image, &names);
    if (result != CUDA_SUCCESS)
        return result;
    CUmodule made = sim_object_new(MARK_MODULE, sizeof *made);
    if (!made) {
        free(names);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    made->context = context;
    made->names = names;
    result = pay(made);
    if (result != CUDA_SUCCESS) {
        free(names);
        sim_object_free(made);
        return result;
    }
    made->next = modules;
    modules = made;
    *module = made;
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    SIM_ENTER();
    CUcontext context = sim_context_current();
    if (context && context->shares)
        context = context->shares;
    return sim_driver_leave(context ? load(module, image, context) : CUDA_ERROR_INVALID_CONTEXT);
}
SIM_SAME(cuModuleLoadFatBinary, cuModuleLoadData);

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, int *options, void **values)
{
    (void)n;
    (void)options;
    (void)values;
    return cuModuleLoadData(module, image);
}

static char *read_whole(const char *path)
{
    FILE *file = path ? fopen(path, "rbe") : NULL;
    char *text = NULL;
    if (file && !fseek(file, 0, SEEK_END)) {
        long size = ftell(file);
        rewind(file);
        text = size >= 4 ? calloc(1, (size_t)size + 1) : NULL;
        if (text && fread(text, 1, (size_t)size, file) != (size_t)size) {
            free(text);
            text = NULL;
        }
    }
    if (file)
        fclose(file);
    return text;
}

CUresult cuModuleLoad(CUmodule *module, const char *path)
{
    char *image = read_whole(path);
    CUresult result = image ? cuModuleLoadData(module, image) : CUDA_ERROR_FILE_NOT_FOUND;
    free(image);
    return result;
}

static void drop(CUmodule module)
{
    struct sim_module **place = &modules;
    while (*place != module)
        place = &(*place)->next;
    *place = module->next;
    refund(module);
    for (struct sim_function **at = &functions; *at;) {
        CUfunction function = *at;
        if (function->module != module) {
            at = &function->next;
            continue;
        }
        *at = function->next;
        free(function->name);
        sim_object_free(function);
    }
    free(module->names);
    sim_object_free(module);
}

void sim_modules_drop(CUcontext context)
{
    for (CUmodule module = modules, next; module; module = next) {
        next = module->next;
        if (module->payer == context)
            refund(module);
        if (module->context == context)
            drop(module);
    }
}

static CUresult unload(CUmodule module)
{
    SIM_ENTER();
    bool there = sim_marked(module, MARK_MODULE);
    if (there)
        drop(module);
    return sim_driver_leave(there ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuModuleUnload(CUmodule module)
{
    return unload(module);
}

CUresult cuLibraryUnload(CUlibrary library)
{
    return unload(library);
}

CUresult cuModuleGetLoadingMode(int *mode)
{
    if (!mode)
        return CUDA_ERROR_INVALID_VALUE;
    *mode = 2; /* lazy */
    return CUDA_SUCCESS;
}

/* --- Functions ---------------------------------------------------------------------------------------------------------------- */

static bool has_name(const struct sim_module *module, const char *name)
{
    if (!module->names)
        return true;
    for (const char *at = module->names; *at; at += strlen(at) + 1)
        if (!strcmp(at, name))
            return true;
    return false;
}

static CUresult get_function(CUfunction *out, CUmodule module, const char *name)
{
    if (!out || !name)
        return CUDA_ERROR_INVALID_VALUE;
    if (!sim_marked(module, MARK_MODULE))
        return CUDA_ERROR_INVALID_HANDLE;
    for (CUfunction at = functions; at; at = at->next)
        if (at->module == module && !strcmp(at->name, name)) {
            *out = at;
            return CUDA_SUCCESS;
        }
    if (!has_name(module, name))
        return CUDA_ERROR_NOT_FOUND;
    CUfunction function = sim_object_new(MARK_FUNCTION, sizeof *function);
    if (!function || !(function->name = strdup(name)))
        return CUDA_ERROR_OUT_OF_MEMORY;
    function->module = module;
    function->rule = sim_kernel_rule(name);
    function->dynamic_shared_max = 49152;
    function->carveout = -1;
    function->next = functions;
    functions = function;
    *out = function;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    SIM_ENTER();
    return sim_driver_leave(get_function(function, module, name));
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name)
{
    (void)address;
    (void)bytes;
    (void)name;
    SIM_ENTER();
    return sim_driver_leave(sim_marked(module, MARK_MODULE) ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, int *jit, void **jit_values, unsigned jit_count, int *options, void **values,
                           unsigned count)
{
    (void)jit, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
    SIM_ENTER();
    return sim_driver_leave(load(library, code, NULL));
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *path, int *jit, void **jit_values, unsigned jit_count, int *options,
                               void **values, unsigned count)
{
    char *image = read_whole(path);
    CUresult result = CUDA_ERROR_FILE_NOT_FOUND;
    if (image)
        result = cuLibraryLoadData(library, image, jit, jit_values, jit_count, options, values, count);
    free(image);
    return result;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name)
{
    SIM_ENTER();
    return sim_driver_leave(get_function(kernel, library, name));
}

/* A library's code is the same in every context here, so it is its own module, and a kernel its own function. */
CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library)
{
    SIM_ENTER();
    bool known = module && sim_marked(library, MARK_MODULE);
    if (known)
        *module = library;
    return sim_driver_leave(known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

#define FUNCTION_GETTER(call, type, name, handle, value)                                                                                   \
    CUresult call(type *name, CUfunction handle)                                                                                           \
    {                                                                                                                                      \
        SIM_ENTER();                                                                                                                       \
        if (!sim_marked(handle, MARK_FUNCTION) || !name)                                                                                   \
            return sim_driver_leave(name ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE);                                          \
        *name = value;                                                                                                                     \
        return sim_driver_leave(CUDA_SUCCESS);                                                                                             \
    }

FUNCTION_GETTER(cuKernelGetFunction, CUfunction, function, kernel, kernel)
FUNCTION_GETTER(cuKernelGetLibrary, CUlibrary, library, kernel, kernel->module)
FUNCTION_GETTER(cuKernelGetName, const char *, name, kernel, kernel->name)
FUNCTION_GETTER(cuFuncGetModule, CUmodule, module, function, function->module)
FUNCTION_GETTER(cuFuncGetName, const char *, name, function, function->name)
FUNCTION_GETTER(cuFuncIsLoaded, int, state, function, 1)

CUresult cuFuncLoad(CUfunction function)
{
    int loaded;
    return cuFuncIsLoaded(&loaded, function);
}

enum { FUNC_MAX_THREADS = 0, FUNC_REGISTERS = 4, FUNC_PTX_VERSION = 5, FUNC_BINARY_VERSION = 6, FUNC_DYNAMIC_SHARED = 8, FUNC_CARVEOUT = 9, FUNC_LAST = 15 };

CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function)
{
    SIM_ENTER();
    if (!value || attribute < 0 || attribute > FUNC_LAST)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (!sim_marked(function, MARK_FUNCTION))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    CUcontext context = sim_context_current();
    const struct sim_visible *device = sim_visible_at(context ? context->device : 0);
    const struct sim_description *description = sim_visible_description(device);
    int capability = (int)(description->capability_major * 10 + description->capability_minor);
    const int values[FUNC_LAST + 1] = {[FUNC_MAX_THREADS] = (int)description->block_threads_max,
                                       [FUNC_REGISTERS] = 32,
                                       [FUNC_PTX_VERSION] = capability,
                                       [FUNC_BINARY_VERSION] = capability,
                                       [FUNC_DYNAMIC_SHARED] = function->dynamic_shared_max,
                                       [FUNC_CARVEOUT] = function->carveout};
    *value = values[attribute];
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value)
{
    SIM_ENTER();
    if (!sim_marked(function, MARK_FUNCTION))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    CUcontext context = sim_context_current();
    const struct sim_description *description = sim_visible_description(sim_visible_at(context ? context->device : 0));
    if (attribute == FUNC_DYNAMIC_SHARED && value >= 0 && value <= (int)description->block_shared_optin_bytes)
        function->dynamic_shared_max = value;
    else if (attribute == FUNC_CARVEOUT && value >= -1 && value <= 100)
        function->carveout = value;
    else
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuKernelGetAttribute(int *value, int attribute, CUkernel kernel, CUdevice device)
{
    (void)device;
    return cuFuncGetAttribute(value, attribute, kernel);
}

CUresult cuKernelSetAttribute(int attribute, int value, CUkernel kernel, CUdevice device)
{
    (void)device;
    return cuFuncSetAttribute(kernel, attribute, value);
}

CUresult cuFuncSetCacheConfig(CUfunction function, int config)
{
    SIM_ENTER();
    bool known = sim_marked(function, MARK_FUNCTION);
    return sim_driver_leave(!known ? CUDA_ERROR_INVALID_HANDLE : config >= 0 && config <= 3 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, int config, CUdevice device)
{
    (void)device;
    return cuFuncSetCacheConfig(kernel, config);
}
