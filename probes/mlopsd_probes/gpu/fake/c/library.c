/* The calls of libnvidia-ml.so.1 that pynvml looks up, answered by the scenario. */

#define _POSIX_C_SOURCE 200809L

#include "host.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

#define BEGIN_ON(beginning, api)                                                                              \
    struct call on = beginning(F_##api, device);                                                              \
    if (on.refused != SUCCESS)                                                                                \
        return on.refused
#define READ(key, out)                                                                                        \
    do {                                                                                                      \
        nvmlReturn_t refused = value_at(&on.card->values[key], on.now, &(out));                               \
        if (refused != SUCCESS)                                                                               \
            return finish(refused);                                                                           \
    } while (0)

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static nvmlReturn_t put(const char *text, char *to, unsigned size) {
    if (!*text)
        return NOT_SUPPORTED;
    if (!to)
        return INVALID_ARGUMENT;
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

/* --- the library and the system --- */

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

/* --- the cards --- */

static nvmlReturn_t count(enum function function, unsigned *cards) {
    struct call on = begin(function);
    if (on.refused != SUCCESS)
        return on.refused;
    *cards = (unsigned)card_count();
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned *cards) { return count(F_nvmlDeviceGetCount, cards); }
EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *cards) { return count(F_nvmlDeviceGetCount_v2, cards); }

/* To be called with the lock; a card that does not answer gives no handle either. */
static nvmlReturn_t handle(int card, int instance, nvmlReturn_t otherwise, nvmlDevice_t *device) {
    if (card < 0)
        return otherwise;
    if (scenario_now()->cards[card].refusal != SUCCESS)
        return scenario_now()->cards[card].refusal;
    *device = handle_of(card, instance);
    return SUCCESS;
}

static nvmlReturn_t by_index(enum function function, unsigned index, nvmlDevice_t *device) {
    struct call on = begin(function);
    if (on.refused != SUCCESS)
        return on.refused;
    return finish(handle(index < CARDS ? card_at((int)index) : -1, -1, INVALID_ARGUMENT, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return by_index(F_nvmlDeviceGetHandleByIndex, index, device);
}
EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    return by_index(F_nvmlDeviceGetHandleByIndex_v2, index, device);
}

static int card_with(enum text text, const char *value) {
    for (int index = 0, card; (card = card_at(index)) >= 0; index++)
        if (strcmp(scenario_now()->cards[card].texts[text], value) == 0)
            return card;
    return -1;
}

static nvmlReturn_t instance_with(const char *uuid, nvmlDevice_t *device) {
    for (int index = 0, number; (number = card_at(index)) >= 0; index++) {
        const struct card *card = &scenario_now()->cards[number];
        for (int i = 0; i < card->instance_count; i++)
            if (strcmp(card->instances[i].uuid, uuid) == 0)
                return handle(number, i, NOT_FOUND, device);
    }
    return NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    struct call on = begin(F_nvmlDeviceGetHandleByUUID);
    if (on.refused != SUCCESS)
        return on.refused;
    int card = card_with(T_UUID, uuid);
    return finish(card >= 0 ? handle(card, -1, NOT_FOUND, device) : instance_with(uuid, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    struct call on = begin(F_nvmlDeviceGetHandleBySerial);
    return on.refused != SUCCESS ? on.refused : finish(handle(card_with(T_SERIAL, serial), -1, NOT_FOUND, device));
}

struct address {
    unsigned domain, bus, device, function;
};

static int parse_address(const char *text, struct address *address) {
    memset(address, 0, sizeof *address);
    return sscanf(text, "%x:%x:%x.%x", &address->domain, &address->bus, &address->device, &address->function) == 4;
}

static nvmlReturn_t by_address(enum function function, const char *text, nvmlDevice_t *device) {
    struct address wanted, has;
    struct call on = begin(function);
    if (on.refused != SUCCESS)
        return on.refused;
    if (!parse_address(text, &wanted))
        return finish(INVALID_ARGUMENT);
    for (int index = 0, card; (card = card_at(index)) >= 0; index++)
        if (parse_address(scenario_now()->cards[card].texts[T_PCI], &has) && memcmp(&has, &wanted, sizeof has) == 0)
            return finish(handle(card, -1, NOT_FOUND, device));
    return finish(NOT_FOUND);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *address, nvmlDevice_t *device) {
    return by_address(F_nvmlDeviceGetHandleByPciBusId, address, device);
}
EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *device) {
    return by_address(F_nvmlDeviceGetHandleByPciBusId_v2, address, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    BEGIN_ON(begin_on_card, nvmlDeviceGetIndex);
    *index = (unsigned)index_of(on.number);
    return finish(SUCCESS);
}

/* --- texts --- */

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *to, unsigned size) {
    char name[2 * TEXT];
    BEGIN_ON(begin_on, nvmlDeviceGetName);
    if (!on.instance)
        return finish(put(on.card->texts[T_NAME], to, size));
    snprintf(name, sizeof name, "%s MIG %s", on.card->texts[T_NAME], on.instance->profile);
    return finish(put(name, to, size));
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *to, unsigned size) {
    BEGIN_ON(begin_on, nvmlDeviceGetUUID);
    return finish(put(on.instance ? on.instance->uuid : on.card->texts[T_UUID], to, size));
}

#define CARD_TEXT(api, text)                                                                                  \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, char *to, unsigned size) {                                   \
        BEGIN_ON(begin_on_card, api);                                                                         \
        return finish(put(on.card->texts[text], to, size));                                                   \
    }
CARD_TEXT(nvmlDeviceGetSerial, T_SERIAL)
CARD_TEXT(nvmlDeviceGetVbiosVersion, T_VBIOS)
CARD_TEXT(nvmlDeviceGetBoardPartNumber, T_PART_NUMBER)
CARD_TEXT(nvmlDeviceGetInforomImageVersion, T_INFOROM)

EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *to) { /* of 64 characters */
    BEGIN_ON(begin_on_card, nvmlDeviceGetGspFirmwareVersion);
    return finish(put(on.card->texts[T_GSP], to, 64));
}

/* --- where it is --- */

static unsigned or_zero(const struct call *on, enum key key) {
    long long value;
    return value_at(&on->card->values[key], on->now, &value) == SUCCESS ? (unsigned)value : 0;
}

static nvmlReturn_t pci_info(const char *text, struct nvmlPciInfo *info) {
    struct address at;
    memset(info, 0, sizeof *info);
    if (!parse_address(text, &at))
        return NOT_SUPPORTED;
    info->domain = at.domain, info->bus = at.bus, info->device = at.device;
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.%X", at.domain, at.bus & 255, at.device & 255, at.function & 15);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.%X", at.domain & 0xFFFF, at.bus & 255,
             at.device & 255, at.function & 15);
    return SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct nvmlPciInfo *info) {
    BEGIN_ON(begin_on_card, nvmlDeviceGetPciInfo_v3);
    nvmlReturn_t answer = pci_info(on.card->texts[T_PCI], info);
    info->pciDeviceId = or_zero(&on, K_PCI_DEVICE);
    info->pciSubSystemId = or_zero(&on, K_PCI_SUBSYSTEM);
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, struct nvmlPciInfoExt *info) {
    struct nvmlPciInfo plain;
    BEGIN_ON(begin_on_card, nvmlDeviceGetPciInfoExt);
    if (info->version != LAYOUT_VERSION(nvmlPciInfoExt, 1))
        return finish(ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t answer = pci_info(on.card->texts[T_PCI], &plain);
    info->domain = plain.domain, info->bus = plain.bus, info->device = plain.device;
    info->pciDeviceId = or_zero(&on, K_PCI_DEVICE);
    info->pciSubSystemId = or_zero(&on, K_PCI_SUBSYSTEM);
    info->baseClass = or_zero(&on, K_PCI_CLASS) >> 8; /* 0x0302: display, 3D controller */
    info->subClass = or_zero(&on, K_PCI_CLASS) & 255;
    memcpy(info->busId, plain.busId, sizeof info->busId);
    return finish(answer);
}

/* --- one number --- */

#define CARD_NUMBER(api, type, key)                                                                           \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, type *out) {                                                 \
        long long value;                                                                                      \
        BEGIN_ON(begin_on_card, api);                                                                         \
        READ(key, value);                                                                                     \
        *out = (type)value;                                                                                   \
        return finish(SUCCESS);                                                                               \
    }
CARD_NUMBER(nvmlDeviceGetMinorNumber, unsigned, K_MINOR)
CARD_NUMBER(nvmlDeviceGetBoardId, unsigned, K_BOARD_ID)
CARD_NUMBER(nvmlDeviceGetModuleId, unsigned, K_MODULE_ID)
CARD_NUMBER(nvmlDeviceGetMultiGpuBoard, unsigned, K_MULTI_GPU_BOARD)
CARD_NUMBER(nvmlDeviceGetBrand, unsigned, K_BRAND)
CARD_NUMBER(nvmlDeviceGetArchitecture, unsigned, K_ARCHITECTURE)
CARD_NUMBER(nvmlDeviceGetBusType, unsigned, K_BUS_TYPE)
CARD_NUMBER(nvmlDeviceGetNumGpuCores, unsigned, K_CORES)
CARD_NUMBER(nvmlDeviceGetMemoryBusWidth, unsigned, K_MEMORY_BUS_WIDTH)
CARD_NUMBER(nvmlDeviceGetDisplayActive, unsigned, K_DISPLAY_ACTIVE)
CARD_NUMBER(nvmlDeviceGetPersistenceMode, unsigned, K_PERSISTENCE)
CARD_NUMBER(nvmlDeviceGetComputeMode, unsigned, K_COMPUTE_MODE)
CARD_NUMBER(nvmlDeviceGetPerformanceState, unsigned, K_PSTATE)
CARD_NUMBER(nvmlDeviceGetPowerState, unsigned, K_PSTATE)
CARD_NUMBER(nvmlDeviceGetPowerManagementMode, unsigned, K_POWER_MANAGEMENT)
CARD_NUMBER(nvmlDeviceGetPowerUsage, unsigned, K_POWER_USAGE)
CARD_NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned, K_POWER_LIMIT)
CARD_NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, K_POWER_DEFAULT)
CARD_NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, K_POWER_ENFORCED)
CARD_NUMBER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, K_ENERGY)
CARD_NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, K_REASONS_CURRENT)
CARD_NUMBER(nvmlDeviceGetSupportedClocksEventReasons, unsigned long long, K_REASONS_SUPPORTED)
CARD_NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, K_REASONS_CURRENT)
CARD_NUMBER(nvmlDeviceGetSupportedClocksThrottleReasons, unsigned long long, K_REASONS_SUPPORTED)
CARD_NUMBER(nvmlDeviceGetNumFans, unsigned, K_FANS)
CARD_NUMBER(nvmlDeviceGetFanSpeed, unsigned, K_FAN_SPEED)
CARD_NUMBER(nvmlDeviceGetDefaultEccMode, unsigned, K_ECC_DEFAULT)
CARD_NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, unsigned, K_RETIRED_PENDING)
CARD_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, K_PCIE_GENERATION)
CARD_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, K_PCIE_MAX_GENERATION)
CARD_NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned, K_PCIE_GPU_MAX_GENERATION)
CARD_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, K_PCIE_WIDTH)
CARD_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, K_PCIE_MAX_WIDTH)
CARD_NUMBER(nvmlDeviceGetPcieReplayCounter, unsigned, K_PCIE_REPLAYS)
CARD_NUMBER(nvmlDeviceGetPcieSpeed, unsigned, K_PCIE_SPEED)
CARD_NUMBER(nvmlDeviceGetMaxMigDeviceCount, unsigned, K_MIG_MAX)
CARD_NUMBER(nvmlDeviceGetSupportedEventTypes, unsigned long long, K_EVENT_TYPES)

/* --- two numbers --- */

#define CARD_PAIR(api, type, first_key, second_key)                                                           \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, type *first, type *second) {                                 \
        long long one, two;                                                                                   \
        BEGIN_ON(begin_on_card, api);                                                                         \
        READ(first_key, one);                                                                                 \
        READ(second_key, two);                                                                                \
        *first = (type)one, *second = (type)two;                                                              \
        return finish(SUCCESS);                                                                               \
    }
CARD_PAIR(nvmlDeviceGetCudaComputeCapability, int, K_CAPABILITY_MAJOR, K_CAPABILITY_MINOR)
CARD_PAIR(nvmlDeviceGetPowerManagementLimitConstraints, unsigned, K_POWER_MIN, K_POWER_MAX)
CARD_PAIR(nvmlDeviceGetMinMaxFanSpeed, unsigned, K_FAN_MIN, K_FAN_MAX)
CARD_PAIR(nvmlDeviceGetEccMode, unsigned, K_ECC_MODE, K_ECC_PENDING)
CARD_PAIR(nvmlDeviceGetMigMode, unsigned, K_MIG_MODE, K_MIG_PENDING)

enum { SAMPLING_PERIOD = 167000 }; /* µs, as seen of encoders in NVIDIA's documentation's examples */

#define ENGINE_UTILIZATION(api, key)                                                                          \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, unsigned *utilization, unsigned *period) {                   \
        long long value;                                                                                      \
        BEGIN_ON(begin_on_card, api);                                                                         \
        READ(key, value);                                                                                     \
        *utilization = (unsigned)value, *period = SAMPLING_PERIOD;                                            \
        return finish(SUCCESS);                                                                               \
    }
ENGINE_UTILIZATION(nvmlDeviceGetEncoderUtilization, K_UTILIZATION_ENCODER)
ENGINE_UTILIZATION(nvmlDeviceGetDecoderUtilization, K_UTILIZATION_DECODER)
ENGINE_UTILIZATION(nvmlDeviceGetJpgUtilization, K_UTILIZATION_JPEG)
ENGINE_UTILIZATION(nvmlDeviceGetOfaUtilization, K_UTILIZATION_OFA)

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct nvmlUtilization *out) {
    long long gpu, memory;
    BEGIN_ON(begin_on_card, nvmlDeviceGetUtilizationRates);
    READ(K_UTILIZATION_GPU, gpu);
    READ(K_UTILIZATION_MEMORY, memory);
    out->gpu = (unsigned)gpu, out->memory = (unsigned)memory;
    return finish(SUCCESS);
}

/* --- one of a row of numbers --- */

#define CARD_CHOICE(api, type, first_key, count)                                                              \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, unsigned which, type *out) {                                 \
        long long value;                                                                                      \
        BEGIN_ON(begin_on_card, api);                                                                         \
        if (which >= (count))                                                                                 \
            return finish(INVALID_ARGUMENT);                                                                  \
        READ((unsigned)(first_key) + which, value);                                                           \
        *out = (type)value;                                                                                   \
        return finish(SUCCESS);                                                                               \
    }
CARD_CHOICE(nvmlDeviceGetClockInfo, unsigned, K_CLOCK_GRAPHICS, 4)
CARD_CHOICE(nvmlDeviceGetMaxClockInfo, unsigned, K_CLOCK_MAX_GRAPHICS, 4)
CARD_CHOICE(nvmlDeviceGetTemperature, unsigned, K_TEMPERATURE_GPU, 1)
CARD_CHOICE(nvmlDeviceGetTemperatureThreshold, unsigned, K_THRESHOLD_SHUTDOWN, 8)
CARD_CHOICE(nvmlDeviceGetPcieThroughput, unsigned, K_PCIE_TX, 2)

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct nvmlTemperature_v1 *out) {
    long long value;
    BEGIN_ON(begin_on_card, nvmlDeviceGetTemperatureV);
    if (out->version != LAYOUT_VERSION(nvmlTemperature_v1, 1))
        return finish(ARGUMENT_VERSION_MISMATCH);
    if (out->sensorType != 0)
        return finish(INVALID_ARGUMENT);
    READ(K_TEMPERATURE_GPU, value);
    out->temperature = (int)value;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, struct nvmlMarginTemperature_v1 *out) {
    long long value;
    BEGIN_ON(begin_on_card, nvmlDeviceGetMarginTemperature);
    if (out->version != LAYOUT_VERSION(nvmlMarginTemperature_v1, 1))
        return finish(ARGUMENT_VERSION_MISMATCH);
    READ(K_TEMPERATURE_MARGIN, value);
    out->marginTemperature = (int)value;
    return finish(SUCCESS);
}

static const struct {
    unsigned policy; /* nvmlPerfPolicyType_t */
    enum key key;
} POLICIES[] = {
    {0, K_VIOLATION_POWER},           {1, K_VIOLATION_THERMAL},     {2, K_VIOLATION_SYNC_BOOST},
    {3, K_VIOLATION_BOARD_LIMIT},     {4, K_VIOLATION_LOW_UTILIZATION}, {5, K_VIOLATION_RELIABILITY},
    {10, K_VIOLATION_APP_CLOCKS},     {11, K_VIOLATION_BASE_CLOCKS},
};
enum { POLICY_COUNT = sizeof POLICIES / sizeof *POLICIES };

EXPORT nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, unsigned policy, struct nvmlViolationTime *out) {
    long long value;
    BEGIN_ON(begin_on_card, nvmlDeviceGetViolationStatus);
    for (int i = 0; i < POLICY_COUNT; i++)
        if (POLICIES[i].policy == policy) {
            READ(POLICIES[i].key, value);
            out->referenceTime = (unsigned long long)microseconds();
            out->violationTime = (unsigned long long)value;
            return finish(SUCCESS);
        }
    return finish(INVALID_ARGUMENT);
}

/* --- fans, of which all turn alike --- */

static nvmlReturn_t fan(enum function function, nvmlDevice_t device, unsigned which, enum key key, unsigned *out) {
    long long fans, value;
    struct call on = begin_on_card(function, device);
    if (on.refused != SUCCESS)
        return on.refused;
    READ(K_FANS, fans);
    if (which >= fans)
        return finish(INVALID_ARGUMENT);
    READ(key, value);
    *out = (unsigned)value;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned which, unsigned *speed) {
    return fan(F_nvmlDeviceGetFanSpeed_v2, device, which, K_FAN_SPEED, speed);
}
EXPORT nvmlReturn_t nvmlDeviceGetTargetFanSpeed(nvmlDevice_t device, unsigned which, unsigned *speed) {
    return fan(F_nvmlDeviceGetTargetFanSpeed, device, which, K_FAN_TARGET, speed);
}
EXPORT nvmlReturn_t nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, struct nvmlFanSpeedInfo *info) {
    if (info->version != LAYOUT_VERSION(nvmlFanSpeedInfo, 1))
        return ARGUMENT_VERSION_MISMATCH;
    return fan(F_nvmlDeviceGetFanSpeedRPM, device, info->fan, K_FAN_RPM, &info->speed);
}

/* --- memory --- */

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
    if (out->version != LAYOUT_VERSION(nvmlMemory_v2, 2))
        return finish(ARGUMENT_VERSION_MISMATCH);
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

/* --- ECC, retired pages, remapped rows --- */

enum { LOCATIONS = 9, TOTAL = 8 };
/* nvmlMemoryLocation_t → its place among the keys: l1 l2 dram register texture shm cbu sram */

static enum key ecc_key(unsigned uncorrected, unsigned aggregate, unsigned location) {
    static const enum key FIRST[2][2] = {{K_ECC_CV_L1, K_ECC_CA_L1}, {K_ECC_UV_L1, K_ECC_UA_L1}};
    return (enum key)(FIRST[uncorrected][aggregate] + location);
}

/* A card whose ECC is off counts nothing. */
static nvmlReturn_t ecc_count(const struct call *on, unsigned type, unsigned counter, unsigned location, long long *out) {
    long long mode;
    nvmlReturn_t refused = value_at(&on->card->values[K_ECC_MODE], on->now, &mode);
    if (type > 1 || counter > 1 || location >= LOCATIONS)
        return INVALID_ARGUMENT;
    if (refused != SUCCESS)
        return refused;
    if (mode == 0)
        return NOT_SUPPORTED;
    return value_at(&on->card->values[ecc_key(type, counter, location)], on->now, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                                unsigned long long *out) {
    long long value = 0;
    BEGIN_ON(begin_on_card, nvmlDeviceGetTotalEccErrors);
    nvmlReturn_t answer = ecc_count(&on, type, counter, TOTAL, &value);
    *out = (unsigned long long)value;
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned type, unsigned counter,
                                                    unsigned location, unsigned long long *out) {
    long long value = 0;
    BEGIN_ON(begin_on_card, nvmlDeviceGetMemoryErrorCounter);
    nvmlReturn_t answer = location < TOTAL ? ecc_count(&on, type, counter, location, &value) : INVALID_ARGUMENT;
    *out = (unsigned long long)value;
    return finish(answer);
}

static unsigned long long ecc_or_zero(const struct call *on, unsigned type, unsigned counter, unsigned location) {
    long long value = 0;
    return ecc_count(on, type, counter, location, &value) == SUCCESS ? (unsigned long long)value : 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                                   struct nvmlEccErrorCounts *out) {
    long long total;
    BEGIN_ON(begin_on_card, nvmlDeviceGetDetailedEccErrors);
    nvmlReturn_t answer = ecc_count(&on, type, counter, TOTAL, &total);
    if (answer == SUCCESS)
        *out = (struct nvmlEccErrorCounts){ecc_or_zero(&on, type, counter, 0), ecc_or_zero(&on, type, counter, 1),
                                           ecc_or_zero(&on, type, counter, 2), ecc_or_zero(&on, type, counter, 3)};
    return finish(answer);
}

/* All of what is uncorrected is said to be of parity, in the L2. */
EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, struct nvmlEccSramErrorStatus_v1 *out) {
    enum { SRAM = 7 };
    long long exceeded;
    BEGIN_ON(begin_on_card, nvmlDeviceGetSramEccErrorStatus);
    if (out->version != LAYOUT_VERSION(nvmlEccSramErrorStatus_v1, 1))
        return finish(ARGUMENT_VERSION_MISMATCH);
    READ(K_ECC_SRAM_THRESHOLD, exceeded);
    memset(out, 0, sizeof *out);
    out->version = LAYOUT_VERSION(nvmlEccSramErrorStatus_v1, 1);
    out->volatileCor = ecc_or_zero(&on, 0, 0, SRAM);
    out->aggregateCor = ecc_or_zero(&on, 0, 1, SRAM);
    out->volatileUncParity = ecc_or_zero(&on, 1, 0, SRAM);
    out->aggregateUncParity = out->bucketL2 = ecc_or_zero(&on, 1, 1, SRAM);
    out->bThresholdExceeded = (unsigned)exceeded;
    return finish(SUCCESS);
}

/* Only a card that says whether a page is pending retires pages. */
static nvmlReturn_t retired(enum function function, nvmlDevice_t device, unsigned cause, unsigned *count,
                            unsigned long long *addresses, unsigned long long *times) {
    long long pending;
    unsigned found = 0;
    struct call on = begin_on_card(function, device);
    if (on.refused != SUCCESS)
        return on.refused;
    READ(K_RETIRED_PENDING, pending);
    for (int i = 0; i < on.card->page_count; i++)
        if (on.card->pages[i].double_bit == (int)cause) {
            if (addresses && found < *count) {
                addresses[found] = on.card->pages[i].address;
                if (times)
                    times[found] = on.card->pages[i].timestamp;
            }
            found++;
        }
    nvmlReturn_t answer = found > (addresses ? *count : 0) ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, unsigned cause, unsigned *count,
                                              unsigned long long *addresses) {
    return retired(F_nvmlDeviceGetRetiredPages, device, cause, count, addresses, 0);
}

/* Asked for the number it is called with the array left out, and pynvml leaves out the times as well. */
EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, unsigned cause, unsigned *count,
                                                 unsigned long long *addresses, unsigned long long *times) {
    return retired(F_nvmlDeviceGetRetiredPages_v2, device, cause, count, addresses, times);
}

/* *count* numbers from the key *first* on. */
static nvmlReturn_t row(const struct call *on, enum key first, unsigned count, long long *out) {
    nvmlReturn_t answer = SUCCESS;
    for (unsigned i = 0; i < count && answer == SUCCESS; i++)
        answer = value_at(&on->card->values[first + i], on->now, &out[i]);
    return answer;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                              unsigned *pending, unsigned *failure) {
    long long rows[4] = {0};
    BEGIN_ON(begin_on_card, nvmlDeviceGetRemappedRows);
    nvmlReturn_t answer = row(&on, K_REMAPPED_CORRECTED, 4, rows);
    *corrected = (unsigned)rows[0], *uncorrected = (unsigned)rows[1];
    *pending = (unsigned)rows[2], *failure = (unsigned)rows[3];
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, struct nvmlRemappedRowsInfo_v2 *out) {
    long long rows[4] = {0};
    BEGIN_ON(begin_on_card, nvmlDeviceGetRemappedRows_v2);
    nvmlReturn_t answer = row(&on, K_REMAPPED_CORRECTED, 4, rows);
    *out = (struct nvmlRemappedRowsInfo_v2){(unsigned)rows[0], 0, (unsigned)rows[1], 0, (unsigned)rows[2], (unsigned)rows[3]};
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, struct nvmlRowRemapperHistogram *out) {
    long long banks[5] = {0};
    BEGIN_ON(begin_on_card, nvmlDeviceGetRowRemapperHistogram);
    nvmlReturn_t answer = row(&on, K_HISTOGRAM_MAX, 5, banks);
    *out = (struct nvmlRowRemapperHistogram){(unsigned)banks[0], (unsigned)banks[1], (unsigned)banks[2],
                                             (unsigned)banks[3], (unsigned)banks[4]};
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, struct nvmlRepairStatus *out) {
    long long channel, tpc;
    BEGIN_ON(begin_on_card, nvmlDeviceGetRepairStatus);
    if (out->version != LAYOUT_VERSION(nvmlRepairStatus, 1))
        return finish(ARGUMENT_VERSION_MISMATCH);
    READ(K_REPAIR_CHANNEL, channel);
    READ(K_REPAIR_TPC, tpc);
    out->bChannelRepairPending = (unsigned)channel, out->bTpcRepairPending = (unsigned)tpc;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetUnrepairableMemoryFlag_v1(nvmlDevice_t device, struct nvmlUnrepairableMemory_v1 *out) {
    long long flag;
    BEGIN_ON(begin_on_card, nvmlDeviceGetUnrepairableMemoryFlag_v1);
    if (out->version != LAYOUT_VERSION(nvmlUnrepairableMemory_v1, 1))
        return finish(ARGUMENT_VERSION_MISMATCH);
    READ(K_UNREPAIRABLE, flag);
    out->bUnrepairableMemory = (unsigned)flag;
    return finish(SUCCESS);
}

/* --- NVLink --- */

static nvmlReturn_t link_value(const struct call *on, unsigned link, enum link_key key, long long *out) {
    long long links;
    nvmlReturn_t refused = value_at(&on->card->values[K_NVLINKS], on->now, &links);
    if (refused != SUCCESS || links == 0)
        return refused != SUCCESS ? refused : NOT_SUPPORTED;
    if (link >= links || link >= LINKS)
        return INVALID_ARGUMENT;
    return value_at(&on->card->links[link].values[key], on->now, out);
}

#define LINK_NUMBER(api, key)                                                                                 \
    EXPORT nvmlReturn_t api(nvmlDevice_t device, unsigned link, unsigned *out) {                              \
        long long value = 0;                                                                                  \
        BEGIN_ON(begin_on_card, api);                                                                         \
        nvmlReturn_t answer = link_value(&on, link, key, &value);                                             \
        *out = (unsigned)value;                                                                               \
        return finish(answer);                                                                                \
    }
LINK_NUMBER(nvmlDeviceGetNvLinkState, L_STATE)
LINK_NUMBER(nvmlDeviceGetNvLinkVersion, L_VERSION)
LINK_NUMBER(nvmlDeviceGetNvLinkRemoteDeviceType, L_REMOTE_TYPE)

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned link, unsigned capability, unsigned *out) {
    long long bits = 0;
    BEGIN_ON(begin_on_card, nvmlDeviceGetNvLinkCapability);
    nvmlReturn_t answer = capability < 6 ? link_value(&on, link, L_CAPABILITIES, &bits) : INVALID_ARGUMENT;
    *out = (unsigned)(bits >> capability & 1);
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned link, unsigned counter,
                                                    unsigned long long *out) {
    static const enum link_key COUNTERS[] = {L_REPLAY, L_RECOVERY, L_CRC_FLIT, L_CRC_DATA, L_ECC_DATA};
    long long value = 0;
    BEGIN_ON(begin_on_card, nvmlDeviceGetNvLinkErrorCounter);
    nvmlReturn_t answer = counter < 5 ? link_value(&on, link, COUNTERS[counter], &value) : INVALID_ARGUMENT;
    *out = (unsigned long long)value;
    return finish(answer);
}

EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link, struct nvmlPciInfo *info) {
    long long state;
    BEGIN_ON(begin_on_card, nvmlDeviceGetNvLinkRemotePciInfo_v2);
    nvmlReturn_t answer = link_value(&on, link, L_STATE, &state);
    return finish(answer != SUCCESS ? answer : pci_info(on.card->links[link].remote_pci, info));
}

/* --- fabric --- */

static void cluster(const char *uuid, unsigned char *bytes) {
    memset(bytes, 0, 16);
    for (int i = 0; i < 16 && *uuid; i++) {
        unsigned byte;
        while (*uuid == '-')
            uuid++;
        if (sscanf(uuid, "%2x", &byte) != 1)
            return;
        bytes[i] = (unsigned char)byte;
        uuid += 2;
    }
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, struct nvmlGpuFabricInfo *out) {
    long long state;
    BEGIN_ON(begin_on_card, nvmlDeviceGetGpuFabricInfo);
    READ(K_FABRIC_STATE, state);
    cluster(on.card->texts[T_CLUSTER], out->clusterUuid);
    out->status = or_zero(&on, K_FABRIC_STATUS);
    out->cliqueId = or_zero(&on, K_FABRIC_CLIQUE);
    out->state = (unsigned)state;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, struct nvmlGpuFabricInfo_v3 *out) {
    enum { SECOND = 0x02000024 }; /* its size is the third's less the summary and its padding */
    long long state;
    BEGIN_ON(begin_on_card, nvmlDeviceGetGpuFabricInfoV);
    if (out->version != LAYOUT_VERSION(nvmlGpuFabricInfo_v3, 3) && out->version != SECOND)
        return finish(ARGUMENT_VERSION_MISMATCH);
    READ(K_FABRIC_STATE, state);
    cluster(on.card->texts[T_CLUSTER], out->clusterUuid);
    out->status = or_zero(&on, K_FABRIC_STATUS);
    out->cliqueId = or_zero(&on, K_FABRIC_CLIQUE);
    out->state = (unsigned)state;
    out->healthMask = or_zero(&on, K_FABRIC_HEALTH_MASK);
    if (out->version != SECOND)
        out->healthSummary = (unsigned char)or_zero(&on, K_FABRIC_SUMMARY);
    return finish(SUCCESS);
}

/* --- MIG --- */

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

/* --- processes --- */

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

/* --- events --- */

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

/* --- field values --- */

enum type { F64, U32, ULONG, U64, I64, I32, U16 }; /* nvmlValueType_t */

static const struct {
    unsigned id;
    enum key key;
    enum type type;
} FIELD_KEYS[] = {
    {1, K_ECC_MODE, U32},
    {2, K_ECC_PENDING, U32},
    {74, K_VIOLATION_POWER, U64},
    {75, K_VIOLATION_THERMAL, U64},
    {76, K_VIOLATION_SYNC_BOOST, U64},
    {77, K_VIOLATION_BOARD_LIMIT, U64},
    {78, K_VIOLATION_LOW_UTILIZATION, U64},
    {79, K_VIOLATION_RELIABILITY, U64},
    {80, K_VIOLATION_APP_CLOCKS, U64},
    {81, K_VIOLATION_BASE_CLOCKS, U64},
    {82, K_TEMPERATURE_MEMORY, U32},
    {83, K_ENERGY, U64},
    {91, K_NVLINKS, U32},
    {94, K_PCIE_REPLAYS, U32},
    {95, K_PCIE_ROLLOVERS, U32},
    {142, K_REMAPPED_CORRECTED, U32},
    {143, K_REMAPPED_UNCORRECTED, U32},
    {144, K_REMAPPED_PENDING, U32},
    {145, K_REMAPPED_FAILURE, U32},
    {147, K_NVSWITCH_LINKS, U32},
    {185, K_POWER_USAGE, U32},
    {186, K_POWER_INSTANT, U32},
    {187, K_POWER_MIN, U32},
    {188, K_POWER_MAX, U32},
    {189, K_POWER_DEFAULT, U32},
    {190, K_POWER_ENFORCED, U32},
    {191, K_ENERGY, U64},
    {192, K_POWER_LIMIT, U32},
    {193, K_TLIMIT_SHUTDOWN, I32},
    {194, K_TLIMIT_SLOWDOWN, I32},
    {195, K_TLIMIT_MEMORY_MAX, I32},
    {196, K_TLIMIT_GPU_MAX, I32},
    {230, K_RECOVERY_ACTION, U32},
    {269, K_SLOWED_SW_THERMAL, U64},
    {270, K_SLOWED_HW_THERMAL, U64},
    {271, K_SLOWED_POWER_BRAKE, U64},
};

/* Per link: the first id for link 0 to 5, the one for 6 to 11, the one for their sum (or 0). */
static const struct {
    unsigned first, seventh, sum;
    enum link_key key;
    enum type type;
} LINK_FIELDS[] = {
    {32, 96, 38, L_CRC_FLIT, U64},   {39, 102, 45, L_CRC_DATA, U64},  {46, 108, 52, L_REPLAY, U64},
    {53, 114, 59, L_RECOVERY, U64},  {84, 132, 0, L_SPEED, U32},      {148, 154, 160, L_ECC_DATA, U64},
};

/* By the link in the scope, or over all if it is NONE (UINT_MAX). */
static const struct {
    unsigned id;
    enum link_key key;
    enum type type;
} SCOPED_FIELDS[] = {
    {138, L_TX, U64},    {139, L_RX, U64},      {140, L_TX, U64},    {141, L_RX, U64},    {161, L_REPLAY, U64},
    {162, L_RECOVERY, U64}, {163, L_CRC_FLIT, U64}, {164, L_SPEED, U32}, {165, L_STATE, U32}, {166, L_VERSION, U32},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static nvmlReturn_t sum_over_links(const struct call *on, enum link_key key, long long *out) {
    long long value;
    nvmlReturn_t answer;
    *out = 0;
    for (unsigned link = 0; (answer = link_value(on, link, key, &value)) == SUCCESS; link++)
        *out += value;
    return answer == INVALID_ARGUMENT ? SUCCESS : answer; /* past the last one */
}

static nvmlReturn_t link_field(const struct call *on, const struct nvmlFieldValue *field, enum type *type, long long *out) {
    for (size_t i = 0; i < COUNT(LINK_FIELDS); i++) {
        unsigned low = field->fieldId - LINK_FIELDS[i].first, high = field->fieldId - LINK_FIELDS[i].seventh;
        *type = LINK_FIELDS[i].type;
        if (low < 6 || high < 6)
            return link_value(on, low < 6 ? low : high + 6, LINK_FIELDS[i].key, out);
        if (LINK_FIELDS[i].sum && field->fieldId == LINK_FIELDS[i].sum)
            return sum_over_links(on, LINK_FIELDS[i].key, out);
    }
    for (size_t i = 0; i < COUNT(SCOPED_FIELDS); i++) {
        *type = SCOPED_FIELDS[i].type;
        if (SCOPED_FIELDS[i].id == field->fieldId)
            return field->scopeId == NONE ? sum_over_links(on, SCOPED_FIELDS[i].key, out)
                                          : link_value(on, field->scopeId, SCOPED_FIELDS[i].key, out);
    }
    return NOT_SUPPORTED;
}

static nvmlReturn_t ecc_field(const struct call *on, unsigned id, long long *out) {
    switch (id) { /* corrected and uncorrected, volatile and aggregate */
    case 3: return ecc_count(on, 0, 0, TOTAL, out);
    case 4: return ecc_count(on, 1, 0, TOTAL, out);
    case 5: return ecc_count(on, 0, 1, TOTAL, out);
    default: return ecc_count(on, 1, 1, TOTAL, out);
    }
}

static nvmlReturn_t retired_field(const struct call *on, unsigned id, long long *out) {
    nvmlReturn_t answer = value_at(&on->card->values[K_RETIRED_PENDING], on->now, out);
    if (answer != SUCCESS || id == 31)
        return answer;
    *out = 0;
    for (int i = 0; i < on->card->page_count; i++)
        *out += on->card->pages[i].double_bit == (id == 30);
    return SUCCESS;
}

static const struct field *told_field(const struct call *on, const struct nvmlFieldValue *field) {
    for (int i = 0; i < on->card->field_count; i++)
        if (on->card->fields[i].id == field->fieldId
            && (on->card->fields[i].scope == NONE || on->card->fields[i].scope == field->scopeId))
            return &on->card->fields[i];
    return 0;
}

static nvmlReturn_t usual_field(const struct call *on, const struct nvmlFieldValue *field, enum type *type, long long *out) {
    for (size_t i = 0; i < COUNT(FIELD_KEYS); i++)
        if (FIELD_KEYS[i].id == field->fieldId) {
            *type = FIELD_KEYS[i].type;
            return value_at(&on->card->values[FIELD_KEYS[i].key], on->now, out);
        }
    *type = U64;
    if (field->fieldId >= 3 && field->fieldId <= 6)
        return ecc_field(on, field->fieldId, out);
    if (field->fieldId >= 29 && field->fieldId <= 31)
        return retired_field(on, field->fieldId, out);
    return link_field(on, field, type, out);
}

static void put_field(struct nvmlFieldValue *field, enum type type, long long value) {
    memset(&field->value, 0, sizeof field->value);
    field->valueType = type;
    switch (type) {
    case F64: field->value.dVal = (double)value; break;
    case U32: field->value.uiVal = (unsigned)value; break;
    case ULONG: field->value.ulVal = (unsigned long)value; break;
    case U64: field->value.ullVal = (unsigned long long)value; break;
    case I64: field->value.sllVal = value; break;
    case I32: field->value.siVal = (int)value; break;
    case U16: field->value.usVal = (unsigned short)value; break;
    }
}

static void answer_field(const struct call *on, struct nvmlFieldValue *field) {
    enum type type;
    long long value = 0;
    const struct field *told = told_field(on, field);
    nvmlReturn_t answer = usual_field(on, field, &type, &value);
    if (told) {
        answer = value_at(&told->value, on->now, &value);
        type = told->type >= 0 ? (enum type)told->type : type;
    }
    field->nvmlReturn = answer;
    field->timestamp = microseconds();
    field->latencyUsec = 0;
    if (answer == SUCCESS)
        put_field(field, type, value);
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, struct nvmlFieldValue *fields) {
    BEGIN_ON(begin_on_card, nvmlDeviceGetFieldValues);
    if (count <= 0 || !fields)
        return finish(INVALID_ARGUMENT);
    for (int i = 0; i < count; i++)
        answer_field(&on, &fields[i]);
    return finish(SUCCESS);
}
