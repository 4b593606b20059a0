/* What MIG made of a card. */

#include "answer.h"

#include <stdio.h>

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is) {
    BEGIN_ON(begin_on, nvmlDeviceIsMigDeviceHandle);
    *is = on.instance != 0;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *out) {
    long long mode;
    BEGIN_ON(begin_on_card, nvmlDeviceGetMigDeviceHandleByIndex);
    READ(K_MIG_MODE, mode);
    if (mode == 0 || index >= (unsigned)on.card->instance_count)
        return finish(NOT_FOUND);
    *out = handle_of(on.number, (int)index);
    return finish(SUCCESS);
}

#define OF_INSTANCE(api, type, expression)                                                                    \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, type *out) {                                                 \
        BEGIN_ON(begin_on, api);                                                                              \
        if (!on.instance)                                                                                     \
            return finish(INVALID_ARGUMENT);                                                                  \
        *out = expression;                                                                                    \
        return finish(SUCCESS);                                                                               \
    }
OF_INSTANCE(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, nvmlDevice_t, handle_of(on.number, -1))
OF_INSTANCE(nvmlDeviceGetGpuInstanceId, unsigned, on.instance->gpu)
OF_INSTANCE(nvmlDeviceGetComputeInstanceId, unsigned, on.instance->compute)

/* A profile's name begins with its slices, as 3g.40gb or 1c.3g.40gb. */
EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, struct nvmlDeviceAttributes *out) {
    unsigned slices = 0, compute = 0;
    BEGIN_ON(begin_on, nvmlDeviceGetAttributes_v2);
    if (!on.instance)
        return finish(INVALID_ARGUMENT);
    if (sscanf(on.instance->profile, "%uc.%ug", &compute, &slices) < 2 && sscanf(on.instance->profile, "%ug", &slices) == 1)
        compute = slices;
    *out = (struct nvmlDeviceAttributes){.multiprocessorCount = on.instance->multiprocessors,
                                         .gpuInstanceSliceCount = slices,
                                         .computeInstanceSliceCount = compute,
                                         .memorySizeMB = (unsigned long long)on.instance->total >> 20};
    return finish(SUCCESS);
}
