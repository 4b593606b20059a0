/* What is one number of a card, or two. */

#include "answer.h"

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
    SAME_LAYOUT(out, nvmlTemperature_v1, 1);
    if (out->sensorType != 0)
        return finish(INVALID_ARGUMENT);
    READ(K_TEMPERATURE_GPU, value);
    out->temperature = (int)value;
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, struct nvmlMarginTemperature_v1 *out) {
    long long value;
    BEGIN_ON(begin_on_card, nvmlDeviceGetMarginTemperature);
    SAME_LAYOUT(out, nvmlMarginTemperature_v1, 1);
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

/* All fans turn alike. */
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
