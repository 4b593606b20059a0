/* How much memory there is, and how much of it is used. */

#include "answer.h"

struct memory {
    long long total, reserved, used;
};

static nvmlReturn_t memory_of(const struct call *on, struct memory *memory) {
    nvmlReturn_t refused;
    if (on->instance) {
        *memory = (struct memory){on->instance->total, 0, on->instance->used};
        return SUCCESS;
    }
    memory->reserved = 0;
    value_at(&on->card->values[K_MEMORY_RESERVED], on->now, &memory->reserved);
    if ((refused = value_at(&on->card->values[K_MEMORY_TOTAL], on->now, &memory->total)) != SUCCESS)
        return refused;
    return value_at(&on->card->values[K_MEMORY_USED], on->now, &memory->used);
}

static unsigned long long free_of(const struct memory *memory) {
    return (unsigned long long)(memory->total - memory->reserved - memory->used);
}

/* The first version counts what is reserved as used. */
EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct nvmlMemory *out) {
    struct memory memory;
    BEGIN_ON(begin_on, nvmlDeviceGetMemoryInfo);
    nvmlReturn_t refused = memory_of(&on, &memory);
    if (refused != SUCCESS)
        return finish(refused);
    out->total = (unsigned long long)memory.total;
    out->free = free_of(&memory);
    out->used = (unsigned long long)(memory.used + memory.reserved);
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct nvmlMemory_v2 *out) {
    struct memory memory;
    BEGIN_ON(begin_on, nvmlDeviceGetMemoryInfo_v2);
    SAME_LAYOUT(out, nvmlMemory_v2, 2);
    nvmlReturn_t refused = memory_of(&on, &memory);
    if (refused != SUCCESS)
        return finish(refused);
    out->total = (unsigned long long)memory.total;
    out->reserved = (unsigned long long)memory.reserved;
    out->free = free_of(&memory);
    out->used = (unsigned long long)memory.used;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, struct nvmlBAR1Memory *out) {
    long long total, used;
    BEGIN_ON(begin_on, nvmlDeviceGetBAR1MemoryInfo);
    READ(K_BAR1_TOTAL, total);
    READ(K_BAR1_USED, used);
    out->total = (unsigned long long)total;
    out->used = (unsigned long long)used;
    out->free = (unsigned long long)(total - used);
    return finish(SUCCESS);
}
