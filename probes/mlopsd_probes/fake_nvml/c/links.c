/* NVLinks, and the fabric that they make. */

#include "answer.h"

#include <stdio.h>
#include <string.h>

nvmlReturn_t link_value(const struct call *on, unsigned link, enum link_key key, long long *out) {
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

/* What every version of the structure has. */
#define READ_FABRIC(out)                                                                                      \
    do {                                                                                                      \
        long long state;                                                                                      \
        READ(K_FABRIC_STATE, state);                                                                          \
        cluster(on.card->texts[T_CLUSTER], (out)->clusterUuid);                                               \
        (out)->status = or_zero(&on, K_FABRIC_STATUS);                                                        \
        (out)->cliqueId = or_zero(&on, K_FABRIC_CLIQUE);                                                      \
        (out)->state = (unsigned)state;                                                                       \
    } while (0)

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, struct nvmlGpuFabricInfo *out) {
    BEGIN_ON(begin_on_card, nvmlDeviceGetGpuFabricInfo);
    READ_FABRIC(out);
    return finish(SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, struct nvmlGpuFabricInfo_v3 *out) {
    enum { SECOND = 0x02000024 }; /* its size is the third's less the summary and its padding */
    BEGIN_ON(begin_on_card, nvmlDeviceGetGpuFabricInfoV);
    if (out->version != LAYOUT_VERSION(nvmlGpuFabricInfo_v3, 3) && out->version != SECOND)
        return finish(ARGUMENT_VERSION_MISMATCH);
    READ_FABRIC(out);
    out->healthMask = or_zero(&on, K_FABRIC_HEALTH_MASK);
    if (out->version != SECOND)
        out->healthSummary = (unsigned char)or_zero(&on, K_FABRIC_SUMMARY);
    return finish(SUCCESS);
}
