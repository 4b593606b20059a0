/* Who uses a card. */

#include "answer.h"

static int is_of(const struct process *process, const struct call *on, char family) {
    return process->family == family
        && (!on->instance || (process->gpu == on->instance->gpu && process->compute == on->instance->compute));
}

static nvmlReturn_t processes(enum function function, nvmlDevice_t device, char family, unsigned *count,
                              struct nvmlProcessInfo *out) {
    unsigned found = 0, room = *count;
    struct call on = begin_on(function, device);
    if (on.refused != SUCCESS)
        return on.refused;
    for (int i = 0; i < on.card->process_count; i++) {
        const struct process *process = &on.card->processes[i];
        long long used = -1; /* NVML_VALUE_NOT_AVAILABLE */
        if (!is_of(process, &on, family))
            continue;
        value_at(&process->memory, on.now, &used);
        if (out && found < room)
            out[found] = (struct nvmlProcessInfo){process->pid, (unsigned long long)used, process->gpu, process->compute};
        found++;
    }
    *count = found;
    return finish(found > (out ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS);
}

#define RUNNING(api, family)                                                                                  \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, unsigned *count, struct nvmlProcessInfo *out) {              \
        return processes(F_##api, device, family, count, out);                                                \
    }
RUNNING(nvmlDeviceGetComputeRunningProcesses_v2, 'c')
RUNNING(nvmlDeviceGetComputeRunningProcesses_v3, 'c')
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v2, 'g')
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v3, 'g')
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses_v2, 'm')
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses_v3, 'm')
