/* The calls of NVML as a whole, and its events. */

#define _POSIX_C_SOURCE 200809L

#include "answer.h"

#include <stdio.h>

static nvmlReturn_t init(enum function function) {
    struct call on = begin(function);
    return on.refused != SUCCESS ? on.refused : finish(initialise());
}

EXPORT nvmlReturn_t nvmlInit(void) { return init(F_nvmlInit); }
EXPORT nvmlReturn_t nvmlInit_v2(void) { return init(F_nvmlInit_v2); }
EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return init(F_nvmlInitWithFlags);
}

EXPORT nvmlReturn_t nvmlShutdown(void) {
    struct call on = begin(F_nvmlShutdown);
    return on.refused != SUCCESS ? on.refused : finish(shut_down());
}

EXPORT const char *nvmlErrorString(nvmlReturn_t code) {
    switch (code) {
#define X(number, name, text)                                                                                 \
    case number:                                                                                              \
        return text;
        CODES(X)
#undef X
    default:
        return "Unknown Error";
    }
}

#define SYSTEM_TEXT(api, member)                                                                              \
    EXPORT nvmlReturn_t api(char *to, unsigned size) {                                                        \
        struct call on = begin(F_##api);                                                                      \
        return on.refused != SUCCESS ? on.refused : finish(put(scenario_now()->member, to, size));            \
    }
SYSTEM_TEXT(nvmlSystemGetDriverVersion, driver)
SYSTEM_TEXT(nvmlSystemGetNVMLVersion, nvml)

static nvmlReturn_t cuda_version(enum function function, int *version) {
    struct call on = begin(function);
    if (on.refused != SUCCESS)
        return on.refused;
    *version = scenario_now()->cuda;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    return cuda_version(F_nvmlSystemGetCudaDriverVersion, version);
}
EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    return cuda_version(F_nvmlSystemGetCudaDriverVersion_v2, version);
}

/* The real one reads the same place. */
EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *to, unsigned size) {
    char path[32], name[1024] = "";
    struct call on = begin(F_nvmlSystemGetProcessName);
    if (on.refused != SUCCESS)
        return on.refused;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return finish(NOT_FOUND);
    size_t length = fread(name, 1, sizeof name - 1, file);
    fclose(file);
    name[length] = 0;
    return finish(*name ? put(name, to, size) : NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    struct call on = begin(F_nvmlEventSetCreate);
    return on.refused != SUCCESS ? on.refused : finish(create_set(set));
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    struct call on = begin(F_nvmlEventSetFree);
    return on.refused != SUCCESS ? on.refused : finish(free_set(set));
}

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    long long supported;
    BEGIN_ON(begin_on_card, nvmlDeviceRegisterEvents);
    READ(K_EVENT_TYPES, supported);
    if (types & ~(unsigned long long)supported)
        return finish(NOT_SUPPORTED);
    return finish(register_card(set, on.number, types));
}

EXPORT nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, struct nvmlEventData *data, unsigned timeout) {
    return wait_for_event(F_nvmlEventSetWait, set, timeout, data);
}
EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, struct nvmlEventData *data, unsigned timeout) {
    return wait_for_event(F_nvmlEventSetWait_v2, set, timeout, data);
}
