/* What of NVIDIA's NVML the fake answers: codes, layouts and the names of its calls.
 *
 * Written from pynvml 13.615 (nvidia-ml-py), whose ctypes structures are the layouts that callers here use,
 * and from NVIDIA's NVML API reference. A test compares each layout's size with pynvml's. */

#ifndef FAKE_NVML_H
#define FAKE_NVML_H

#include <stdint.h>

typedef unsigned int nvmlReturn_t;
typedef const struct handle *nvmlDevice_t;
typedef struct event_set *nvmlEventSet_t;

#define CODES(X)                                                                                              \
    X(0, SUCCESS, "Success")                                                                                  \
    X(1, UNINITIALIZED, "Uninitialized")                                                                      \
    X(2, INVALID_ARGUMENT, "Invalid Argument")                                                                \
    X(3, NOT_SUPPORTED, "Not Supported")                                                                      \
    X(4, NO_PERMISSION, "Insufficient Permissions")                                                           \
    X(5, ALREADY_INITIALIZED, "Already Initialized")                                                          \
    X(6, NOT_FOUND, "Not Found")                                                                              \
    X(7, INSUFFICIENT_SIZE, "Insufficient Size")                                                              \
    X(8, INSUFFICIENT_POWER, "Insufficient External Power")                                                   \
    X(9, DRIVER_NOT_LOADED, "Driver Not Loaded")                                                              \
    X(10, TIMEOUT, "Timeout")                                                                                 \
    X(11, IRQ_ISSUE, "Interrupt Request Issue")                                                               \
    X(12, LIBRARY_NOT_FOUND, "NVML Shared Library Not Found")                                                 \
    X(13, FUNCTION_NOT_FOUND, "Function Not Found")                                                           \
    X(14, CORRUPTED_INFOROM, "Corrupted infoROM")                                                             \
    X(15, GPU_IS_LOST, "GPU is lost")                                                                         \
    X(16, RESET_REQUIRED, "GPU requires reset")                                                               \
    X(17, OPERATING_SYSTEM, "GPU access blocked by the operating system")                                     \
    X(18, LIB_RM_VERSION_MISMATCH, "Driver/library version mismatch")                                         \
    X(19, IN_USE, "In use by another client")                                                                 \
    X(20, MEMORY, "Insufficient Memory")                                                                      \
    X(21, NO_DATA, "No data")                                                                                 \
    X(22, VGPU_ECC_NOT_SUPPORTED, "The requested vgpu operation is not available, because ECC is enabled")    \
    X(23, INSUFFICIENT_RESOURCES, "Insufficient Resources")                                                   \
    X(24, FREQ_NOT_SUPPORTED, "Frequency Not Supported")                                                      \
    X(25, ARGUMENT_VERSION_MISMATCH, "Argument Version Mismatch")                                             \
    X(26, DEPRECATED, "Requested functionality has been deprecated")                                          \
    X(27, NOT_READY, "System is not ready for the request")                                                   \
    X(28, GPU_NOT_FOUND, "No GPUs were found")                                                                \
    X(29, INVALID_STATE, "Resource not in correct state to perform requested operation")                      \
    X(30, RESET_TYPE_NOT_SUPPORTED, "Reset not supported for given device/parameters")                        \
    X(999, UNKNOWN, "Unknown Error")

enum code {
#define X(number, name, text) name = number,
    CODES(X)
#undef X
};

/* Every call that is exported. What is not here is absent, as in a driver too old to have it. */
#define FUNCTIONS(X)                                                                                          \
    X(nvmlInit)                                                                                               \
    X(nvmlInit_v2)                                                                                            \
    X(nvmlInitWithFlags)                                                                                      \
    X(nvmlShutdown)                                                                                           \
    X(nvmlErrorString)                                                                                        \
    X(nvmlSystemGetDriverVersion)                                                                             \
    X(nvmlSystemGetNVMLVersion)                                                                               \
    X(nvmlSystemGetCudaDriverVersion)                                                                         \
    X(nvmlSystemGetCudaDriverVersion_v2)                                                                      \
    X(nvmlSystemGetProcessName)                                                                               \
    X(nvmlDeviceGetCount)                                                                                     \
    X(nvmlDeviceGetCount_v2)                                                                                  \
    X(nvmlDeviceGetHandleByIndex)                                                                             \
    X(nvmlDeviceGetHandleByIndex_v2)                                                                          \
    X(nvmlDeviceGetHandleByUUID)                                                                              \
    X(nvmlDeviceGetHandleBySerial)                                                                            \
    X(nvmlDeviceGetHandleByPciBusId)                                                                          \
    X(nvmlDeviceGetHandleByPciBusId_v2)                                                                       \
    X(nvmlDeviceGetIndex)                                                                                     \
    X(nvmlDeviceGetName)                                                                                      \
    X(nvmlDeviceGetUUID)                                                                                      \
    X(nvmlDeviceGetSerial)                                                                                    \
    X(nvmlDeviceGetVbiosVersion)                                                                              \
    X(nvmlDeviceGetBoardPartNumber)                                                                           \
    X(nvmlDeviceGetInforomImageVersion)                                                                       \
    X(nvmlDeviceGetGspFirmwareVersion)                                                                        \
    X(nvmlDeviceGetPciInfo_v3)                                                                                \
    X(nvmlDeviceGetPciInfoExt)                                                                                \
    X(nvmlDeviceGetMinorNumber)                                                                               \
    X(nvmlDeviceGetBoardId)                                                                                   \
    X(nvmlDeviceGetModuleId)                                                                                  \
    X(nvmlDeviceGetMultiGpuBoard)                                                                             \
    X(nvmlDeviceGetBrand)                                                                                     \
    X(nvmlDeviceGetArchitecture)                                                                              \
    X(nvmlDeviceGetBusType)                                                                                   \
    X(nvmlDeviceGetCudaComputeCapability)                                                                     \
    X(nvmlDeviceGetNumGpuCores)                                                                               \
    X(nvmlDeviceGetMemoryBusWidth)                                                                            \
    X(nvmlDeviceGetDisplayActive)                                                                             \
    X(nvmlDeviceGetPersistenceMode)                                                                           \
    X(nvmlDeviceGetComputeMode)                                                                               \
    X(nvmlDeviceGetPerformanceState)                                                                          \
    X(nvmlDeviceGetPowerState)                                                                                \
    X(nvmlDeviceGetUtilizationRates)                                                                          \
    X(nvmlDeviceGetEncoderUtilization)                                                                        \
    X(nvmlDeviceGetDecoderUtilization)                                                                        \
    X(nvmlDeviceGetJpgUtilization)                                                                            \
    X(nvmlDeviceGetOfaUtilization)                                                                            \
    X(nvmlDeviceGetMemoryInfo)                                                                                \
    X(nvmlDeviceGetMemoryInfo_v2)                                                                             \
    X(nvmlDeviceGetBAR1MemoryInfo)                                                                            \
    X(nvmlDeviceGetTemperature)                                                                               \
    X(nvmlDeviceGetTemperatureV)                                                                              \
    X(nvmlDeviceGetTemperatureThreshold)                                                                      \
    X(nvmlDeviceGetMarginTemperature)                                                                         \
    X(nvmlDeviceGetPowerManagementMode)                                                                       \
    X(nvmlDeviceGetPowerUsage)                                                                                \
    X(nvmlDeviceGetPowerManagementLimit)                                                                      \
    X(nvmlDeviceGetPowerManagementDefaultLimit)                                                               \
    X(nvmlDeviceGetPowerManagementLimitConstraints)                                                           \
    X(nvmlDeviceGetEnforcedPowerLimit)                                                                        \
    X(nvmlDeviceGetTotalEnergyConsumption)                                                                    \
    X(nvmlDeviceGetClockInfo)                                                                                 \
    X(nvmlDeviceGetMaxClockInfo)                                                                              \
    X(nvmlDeviceGetCurrentClocksEventReasons)                                                                 \
    X(nvmlDeviceGetSupportedClocksEventReasons)                                                               \
    X(nvmlDeviceGetCurrentClocksThrottleReasons)                                                              \
    X(nvmlDeviceGetSupportedClocksThrottleReasons)                                                            \
    X(nvmlDeviceGetViolationStatus)                                                                           \
    X(nvmlDeviceGetNumFans)                                                                                   \
    X(nvmlDeviceGetFanSpeed)                                                                                  \
    X(nvmlDeviceGetFanSpeed_v2)                                                                               \
    X(nvmlDeviceGetTargetFanSpeed)                                                                            \
    X(nvmlDeviceGetFanSpeedRPM)                                                                               \
    X(nvmlDeviceGetMinMaxFanSpeed)                                                                            \
    X(nvmlDeviceGetEccMode)                                                                                   \
    X(nvmlDeviceGetDefaultEccMode)                                                                            \
    X(nvmlDeviceGetTotalEccErrors)                                                                            \
    X(nvmlDeviceGetMemoryErrorCounter)                                                                        \
    X(nvmlDeviceGetDetailedEccErrors)                                                                         \
    X(nvmlDeviceGetSramEccErrorStatus)                                                                        \
    X(nvmlDeviceGetRetiredPages)                                                                              \
    X(nvmlDeviceGetRetiredPages_v2)                                                                           \
    X(nvmlDeviceGetRetiredPagesPendingStatus)                                                                 \
    X(nvmlDeviceGetRemappedRows)                                                                              \
    X(nvmlDeviceGetRemappedRows_v2)                                                                           \
    X(nvmlDeviceGetRowRemapperHistogram)                                                                      \
    X(nvmlDeviceGetRepairStatus)                                                                              \
    X(nvmlDeviceGetUnrepairableMemoryFlag_v1)                                                                 \
    X(nvmlDeviceGetCurrPcieLinkGeneration)                                                                    \
    X(nvmlDeviceGetMaxPcieLinkGeneration)                                                                     \
    X(nvmlDeviceGetGpuMaxPcieLinkGeneration)                                                                  \
    X(nvmlDeviceGetCurrPcieLinkWidth)                                                                         \
    X(nvmlDeviceGetMaxPcieLinkWidth)                                                                          \
    X(nvmlDeviceGetPcieReplayCounter)                                                                         \
    X(nvmlDeviceGetPcieSpeed)                                                                                 \
    X(nvmlDeviceGetPcieThroughput)                                                                            \
    X(nvmlDeviceGetNvLinkState)                                                                               \
    X(nvmlDeviceGetNvLinkVersion)                                                                             \
    X(nvmlDeviceGetNvLinkCapability)                                                                          \
    X(nvmlDeviceGetNvLinkErrorCounter)                                                                        \
    X(nvmlDeviceGetNvLinkRemotePciInfo_v2)                                                                    \
    X(nvmlDeviceGetNvLinkRemoteDeviceType)                                                                    \
    X(nvmlDeviceGetFieldValues)                                                                               \
    X(nvmlDeviceGetGpuFabricInfo)                                                                             \
    X(nvmlDeviceGetGpuFabricInfoV)                                                                            \
    X(nvmlDeviceGetMigMode)                                                                                   \
    X(nvmlDeviceIsMigDeviceHandle)                                                                            \
    X(nvmlDeviceGetMaxMigDeviceCount)                                                                         \
    X(nvmlDeviceGetMigDeviceHandleByIndex)                                                                    \
    X(nvmlDeviceGetDeviceHandleFromMigDeviceHandle)                                                           \
    X(nvmlDeviceGetGpuInstanceId)                                                                             \
    X(nvmlDeviceGetComputeInstanceId)                                                                         \
    X(nvmlDeviceGetAttributes_v2)                                                                             \
    X(nvmlDeviceGetComputeRunningProcesses_v2)                                                                \
    X(nvmlDeviceGetComputeRunningProcesses_v3)                                                                \
    X(nvmlDeviceGetGraphicsRunningProcesses_v2)                                                               \
    X(nvmlDeviceGetGraphicsRunningProcesses_v3)                                                               \
    X(nvmlDeviceGetMPSComputeRunningProcesses_v2)                                                             \
    X(nvmlDeviceGetMPSComputeRunningProcesses_v3)                                                             \
    X(nvmlDeviceGetSupportedEventTypes)                                                                       \
    X(nvmlDeviceRegisterEvents)                                                                               \
    X(nvmlEventSetCreate)                                                                                     \
    X(nvmlEventSetWait)                                                                                       \
    X(nvmlEventSetWait_v2)                                                                                    \
    X(nvmlEventSetFree)

enum function {
#define X(name) F_##name,
    FUNCTIONS(X)
#undef X
    FUNCTION_COUNT
};

/* The layouts, by pynvml's names. */

struct nvmlPciInfo {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
};

struct nvmlPciInfoExt {
    unsigned version, domain, bus, device, pciDeviceId, pciSubSystemId, baseClass, subClass;
    char busId[32];
};

struct nvmlUtilization {
    unsigned gpu, memory;
};

struct nvmlMemory {
    unsigned long long total, free, used;
};

struct nvmlMemory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

struct nvmlBAR1Memory {
    unsigned long long total, free, used;
};

struct nvmlTemperature_v1 {
    unsigned version, sensorType;
    int temperature;
};

struct nvmlMarginTemperature_v1 {
    unsigned version;
    int marginTemperature;
};

struct nvmlFanSpeedInfo {
    unsigned version, fan, speed;
};

struct nvmlViolationTime {
    unsigned long long referenceTime; /* µs */
    unsigned long long violationTime; /* ns */
};

struct nvmlEccErrorCounts {
    unsigned long long l1Cache, l2Cache, deviceMemory, registerFile;
};

struct nvmlEccSramErrorStatus_v1 {
    unsigned version;
    unsigned long long aggregateUncParity, aggregateUncSecDed, aggregateCor;
    unsigned long long volatileUncParity, volatileUncSecDed, volatileCor;
    unsigned long long bucketL2, bucketSm, bucketPcie, bucketMcu, bucketOther;
    unsigned bThresholdExceeded;
};

struct nvmlRemappedRowsInfo_v2 {
    unsigned corrActive, corrInactive, uncActive, uncInactive, bPending, bFailureOccurred;
};

struct nvmlRowRemapperHistogram {
    unsigned max, high, partial, low, none;
};

struct nvmlRepairStatus {
    unsigned version, bChannelRepairPending, bTpcRepairPending;
};

struct nvmlUnrepairableMemory_v1 {
    unsigned version, bUnrepairableMemory;
};

union nvmlValue {
    double dVal;
    unsigned uiVal;
    unsigned long ulVal;
    unsigned long long ullVal;
    long long sllVal;
    int siVal;
    unsigned short usVal;
};

struct nvmlFieldValue {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec; /* µs */
    unsigned valueType;
    nvmlReturn_t nvmlReturn;
    union nvmlValue value;
};

struct nvmlGpuFabricInfo {
    unsigned char clusterUuid[16];
    nvmlReturn_t status;
    unsigned cliqueId, state;
};

struct nvmlGpuFabricInfo_v3 { /* _v2 is the same without the summary */
    unsigned version;
    unsigned char clusterUuid[16];
    nvmlReturn_t status;
    unsigned cliqueId, state, healthMask;
    unsigned char healthSummary;
};

struct nvmlDeviceAttributes {
    unsigned multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    unsigned sharedJpegCount, sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount;
    unsigned long long memorySizeMB;
};

struct nvmlProcessInfo {
    unsigned pid;
    unsigned long long usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
};

struct nvmlEventData {
    nvmlDevice_t device;
    unsigned long long eventType, eventData;
    unsigned gpuInstanceId, computeInstanceId;
};

#define LAYOUT_VERSION(layout, number) ((unsigned)sizeof(struct layout) | (unsigned)(number) << 24)
#define EVENT_XID 0x8ULL                /* nvmlEventTypeXidCriticalError */
#define NONE 0xFFFFFFFFu                /* an instance that is none */

#endif
