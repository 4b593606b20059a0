/* Which card is meant, and who it is. */

#include "answer.h"

#include <stdio.h>
#include <string.h>

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

static int card_at_index(const void *index) {
    unsigned at = *(const unsigned *)index;
    return at < CARDS ? card_at((int)at) : -1;
}

static nvmlReturn_t by_index(enum function function, unsigned index, nvmlDevice_t *device) {
    struct call on = begin_search(function, card_at_index, &index);
    return on.refused != SUCCESS ? on.refused : finish(handle(on.number, -1, INVALID_ARGUMENT, device));
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

static int card_with_uuid(const void *uuid) { return card_with(T_UUID, uuid); }
static int card_with_serial(const void *serial) { return card_with(T_SERIAL, serial); }

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    struct call on = begin_search(F_nvmlDeviceGetHandleByUUID, card_with_uuid, uuid);
    if (on.refused != SUCCESS)
        return on.refused;
    return finish(on.number >= 0 ? handle(on.number, -1, NOT_FOUND, device) : instance_with(uuid, device));
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    struct call on = begin_search(F_nvmlDeviceGetHandleBySerial, card_with_serial, serial);
    return on.refused != SUCCESS ? on.refused : finish(handle(on.number, -1, NOT_FOUND, device));
}

struct address {
    unsigned domain, bus, device, function;
};

static int parse_address(const char *text, struct address *address) {
    memset(address, 0, sizeof *address);
    return sscanf(text, "%x:%x:%x.%x", &address->domain, &address->bus, &address->device, &address->function) == 4;
}

static int card_at_address(const void *address) {
    struct address has;
    for (int index = 0, card; (card = card_at(index)) >= 0; index++)
        if (parse_address(scenario_now()->cards[card].texts[T_PCI], &has) && memcmp(&has, address, sizeof has) == 0)
            return card;
    return -1;
}

static nvmlReturn_t by_address(enum function function, const char *text, nvmlDevice_t *device) {
    struct address wanted;
    int is_address = parse_address(text, &wanted);
    struct call on = begin_search(function, card_at_address, &wanted);
    if (on.refused != SUCCESS)
        return on.refused;
    return finish(is_address ? handle(on.number, -1, NOT_FOUND, device) : INVALID_ARGUMENT);
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

nvmlReturn_t pci_info(const char *text, struct nvmlPciInfo *info) {
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
    SAME_LAYOUT(info, nvmlPciInfoExt, 1);
    nvmlReturn_t answer = pci_info(on.card->texts[T_PCI], &plain);
    info->domain = plain.domain, info->bus = plain.bus, info->device = plain.device;
    info->pciDeviceId = or_zero(&on, K_PCI_DEVICE);
    info->pciSubSystemId = or_zero(&on, K_PCI_SUBSYSTEM);
    info->baseClass = or_zero(&on, K_PCI_CLASS) >> 8; /* 0x0302: display, 3D controller */
    info->subClass = or_zero(&on, K_PCI_CLASS) & 255;
    memcpy(info->busId, plain.busId, sizeof info->busId);
    return finish(answer);
}
