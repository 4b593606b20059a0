/* The numbered fields, which are asked for in a row. */

#include "answer.h"

#include <string.h>

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
    case 3: return ecc_count(on, 0, 0, EVERYWHERE, out);
    case 4: return ecc_count(on, 1, 0, EVERYWHERE, out);
    case 5: return ecc_count(on, 0, 1, EVERYWHERE, out);
    default: return ecc_count(on, 1, 1, EVERYWHERE, out);
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
