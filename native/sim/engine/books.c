/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's own books as JSON: what tests and `mica audit` measure everything else against.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"

struct writer {
    char *text;
    size_t size;
    size_t used; /* may exceed size: then the text is cut */
};

static void put(struct writer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct writer *out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = out->used < out->size ? out->size - out->used : 0;
    int length = vsnprintf(room ? out->text + out->used : NULL, room, format, arguments);
    va_end(arguments);
    out->used += length > 0 ? (size_t)length : 0;
}

static void put_text(struct writer *out, const char *key, const char *text)
{
    put(out, "\"%s\":\"", key);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            put(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            put(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            put(out, "%c", *text);
    }
    put(out, "\"");
}

static void put_number(struct writer *out, const char *key, uint64_t number)
{
    put(out, ",\"%s\":%llu", key, (unsigned long long)number);
}

static void put_list(struct writer *out, const char *key)
{
    put(out, ",\"%s\":[", key);
}

static uint64_t requested_of(const struct sim_state *state, int device)
{
    uint64_t sum = 0;
    for (int p = 0; p < SIM_PROCESSES_MAX; p++)
        for (int a = 0; a < SIM_ACCOUNTS_MAX; a++)
            if (state->processes[p].state == SIM_PROCESS_LIVE && state->processes[p].accounts[a].live &&
                state->processes[p].accounts[a].device == device)
                sum += state->processes[p].accounts[a].requested_bytes;
    for (int i = 0; i < SIM_SHARES_MAX; i++)
        if (state->shares[i].live && state->shares[i].device == device)
            sum += state->shares[i].requested_bytes;
    return sum;
}

static struct sim_done done_on(const struct sim_state *state, int device, bool copies)
{
    const struct sim_totals *totals = &state->devices[device].totals;
    struct sim_done sum = {.submitted = totals->launches, .ns = copies ? totals->copy_ns : totals->kernel_ns, .multiprocessor_ns = totals->multiprocessor_ns};
    for (int i = 0; i < SIM_CHANNELS_MAX; i++) {
        if (!state->channels[i].live || state->channels[i].device != device)
            continue;
        struct sim_done done = sim_channel_done(state, &state->channels[i], copies);
        sum.submitted += done.submitted;
        sum.ns += done.ns;
        sum.multiprocessor_ns += done.multiprocessor_ns;
    }
    return sum;
}

static void put_compute(struct writer *out, const struct sim_gpu_instance *instance)
{
    const char *comma = "";
    put_list(out, "compute");
    for (int c = 0; c < SIM_COMPUTE_MAX; c++) {
        const struct sim_compute_instance *compute = &instance->compute[c];
        if (!compute->live)
            continue;
        put(out, "%s{", comma);
        put_text(out, "uuid", compute->uuid);
        put_number(out, "id", compute->id);
        put_number(out, "compute_slices", compute->compute_slices);
        put_number(out, "multiprocessors", compute->multiprocessors);
        put_number(out, "busy_ns", sim_timeline_busy_ns(&compute->timeline));
        put(out, "}");
        comma = ",";
    }
    put(out, "]");
}

static void put_instances(struct writer *out, const struct sim_state *state, unsigned device)
{
    const char *comma = "";
    put_list(out, "instances");
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *instance = &state->devices[device].instances[i];
        const struct sim_profile *profile = &state->node.devices[device].profiles[instance->profile];
        if (!instance->live)
            continue;
        put(out, "%s{", comma);
        put_text(out, "profile", profile->name);
        put(out, ",");
        put_text(out, "layout", profile->layout);
        put_number(out, "id", instance->id);
        put_number(out, "profile_id", profile->id);
        put_number(out, "start", instance->start);
        put_number(out, "size", profile->size);
        put_number(out, "memory_bytes", profile->memory_bytes);
        put_number(out, "spent_bytes", instance->spent_bytes);
        put_compute(out, instance);
        put(out, "}");
        comma = ",";
    }
    put(out, "]");
}

static void put_health(struct writer *out, const struct sim_health *health)
{
    put(out, ",\"lost\":%s", health->lost ? "true" : "false");
    put_number(out, "hang_ms", health->hang_ms);
    put_number(out, "temperature_c", health->temperature_c);
    put_number(out, "ecc_corrected", health->ecc_corrected);
    put_number(out, "ecc_uncorrected", health->ecc_uncorrected);
}

static void put_links(struct writer *out, const struct sim_node *node)
{
    put_list(out, "links");
    for (unsigned i = 0; i < node->link_count; i++) {
        put(out, "%s{", i ? "," : "");
        put_text(out, "kind", node->links[i].kind);
        put_number(out, "a", node->links[i].a);
        put_number(out, "b", node->links[i].b);
        put_number(out, "lanes", node->links[i].lanes);
        put_number(out, "bytes_per_s", node->links[i].bytes_per_s);
        put(out, "}");
    }
    put(out, "]");
}

static void put_device(struct writer *out, const struct sim_state *state, unsigned index)
{
    const struct sim_description *description = &state->node.devices[index];
    const struct sim_device *device = &state->devices[index];
    put(out, "{");
    put_text(out, "uuid", description->uuid);
    put(out, ",");
    put_text(out, "name", description->name);
    for (size_t i = 0; i < 5; i++) {
        const char *words[5][2] = {{"vendor", description->vendor}, {"key", description->key}, {"group", description->group},
                                   {"serial", description->serial}, {"layout", sim_layout_of(state, (int)index)}};
        put(out, ",");
        put_text(out, words[i][0], words[i][1]);
    }
    put(out, ",\"pci\":\"%04x:%02x:%02x.0\"", description->pci_domain, description->pci_bus, description->pci_device);
    put_number(out, "numa_node", description->numa_node);
    put_number(out, "pci_switch", description->pci_switch);
    put_health(out, &device->health);
    put_number(out, "index", index);
    put_number(out, "vram_bytes", description->vram_bytes);
    put_number(out, "reserve_bytes", description->reserve_bytes);
    put_number(out, "requested_bytes", requested_of(state, (int)index));
    uint64_t spent = device->spent_bytes;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        spent += device->instances[i].live ? device->instances[i].spent_bytes : 0;
    put_number(out, "spent_bytes", spent);
    put_number(out, "spent_peak_bytes", device->totals.spent_peak_bytes);
    put_number(out, "multiprocessors", description->multiprocessors);
    put(out, ",\"mig_enabled\":%s", device->mig_enabled ? "true" : "false");
    put(out, ",\"mig_pending\":%s", device->mig_pending ? "true" : "false");
    struct sim_done kernels = done_on(state, (int)index, false);
    put_number(out, "launches", kernels.submitted);
    put_number(out, "kernel_ns", kernels.ns);
    put_number(out, "multiprocessor_ns", kernels.multiprocessor_ns);
    put_number(out, "copy_ns", done_on(state, (int)index, true).ns);
    put_number(out, "busy_ns", sim_timeline_busy_ns(&device->timeline));
    put_number(out, "allocations", device->totals.allocations);
    put_number(out, "refusals", device->totals.refusals);
    put_instances(out, state, index);
    put(out, "}");
}

static void put_account(struct writer *out, const struct sim_state *state, int process, const struct sim_account *account)
{
    struct sim_done kernels = {account->launches, account->completed, account->kernel_ns, account->multiprocessor_ns};
    struct sim_done copies = {.completed = account->copies, .ns = account->copy_ns};
    if (account->channel >= 0) {
        kernels = sim_channel_done(state, &state->channels[account->channel], false);
        copies = sim_channel_done(state, &state->channels[account->channel], true);
    }
    struct sim_paid paid = sim_share_paid(state, process, account);
    put(out, "{");
    put_text(out, "uuid", account->uuid);
    put_number(out, "device", (uint64_t)account->device);
    put_number(out, "contexts", account->contexts);
    put_number(out, "requested_bytes", account->requested_bytes + paid.requested_bytes);
    put_number(out, "requested_peak_bytes", account->requested_peak_bytes);
    put_number(out, "granule_bytes", account->granule_bytes + paid.granule_bytes);
    put_number(out, "granule_peak_bytes", account->granule_peak_bytes);
    put_number(out, "context_bytes", account->context_bytes);
    put_number(out, "away_bytes", account->away_granule_bytes + account->away_context_bytes);
    put_number(out, "allocations", account->allocations);
    put_number(out, "refusals", account->refusals);
    put_number(out, "launches", kernels.submitted);
    put_number(out, "completed", kernels.completed);
    put_number(out, "kernel_ns", kernels.ns);
    put_number(out, "multiprocessor_ns", kernels.multiprocessor_ns);
    put_number(out, "copies", copies.completed);
    put_number(out, "copy_ns", copies.ns);
    put(out, "}");
}

static void put_process(struct writer *out, const struct sim_state *state, int index)
{
    const struct sim_process *process = &state->processes[index];
    const char *comma = "";
    bool live = process->state == SIM_PROCESS_LIVE;
    put(out, "{");
    put_text(out, "command", process->command);
    put(out, ",\"live\":%s", live ? "true" : "false");
    put_number(out, "pid", live ? (uint64_t)sim_process_pid(state, index) : 0);
    put_number(out, "own_pid", (uint64_t)process->pid);
    put_number(out, "start_ticks", process->start_ticks);
    put(out, ",\"mps\":%s", process->mps ? "true" : "false");
    put_number(out, "threads_percent", process->threads_percent);
    put_number(out, "since_ns", process->since_ns);
    put_number(out, "stage", process->desk.stage);
    put_list(out, "accounts");
    for (int a = 0; a < SIM_ACCOUNTS_MAX; a++) {
        if (!process->accounts[a].live)
            continue;
        put(out, "%s", comma);
        put_account(out, state, index, &process->accounts[a]);
        comma = ",";
    }
    put(out, "]}");
}

static void advance_all(struct sim_state *state, uint64_t now_ns)
{
    for (unsigned d = 0; d < state->node.device_count; d++)
        sim_device_busy_ppm(state, (int)d, now_ns);
}

int mica_sim_books(char *json, size_t n)
{
    int result = sim_engine_open();
    if (result)
        return result;
    struct writer out = {json, n, 0};
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    uint64_t now_ns = sim_now_ns();
    advance_all(state, now_ns);
    put(&out, "{");
    put_text(&out, "node", state->node.name);
    put_number(&out, "now_ns", now_ns);
    put_number(&out, "repairs", state->repairs);
    put_number(&out, "boots", state->boots);
    put_links(&out, &state->node);
    put_list(&out, "devices");
    for (unsigned d = 0; d < state->node.device_count; d++) {
        put(&out, "%s", d ? "," : "");
        put_device(&out, state, d);
    }
    put(&out, "]");
    put_list(&out, "processes");
    const char *comma = "";
    for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
        if (state->processes[p].state == SIM_PROCESS_FREE)
            continue;
        put(&out, "%s", comma);
        put_process(&out, state, p);
        comma = ",";
    }
    put(&out, "]}");
    sim_leave(state);
    return (int)out.used;
}
