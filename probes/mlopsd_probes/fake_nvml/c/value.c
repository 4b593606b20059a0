/* What a key holds at a moment, and how a scenario writes it. */

#include "line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    unsigned number;
    const char *name;
} CODE_NAMES[] = {
#define X(number, name, text) {number, #name},
    CODES(X)
#undef X
};

nvmlReturn_t value_at(const struct value *value, long long now, long long *out) {
    if (value->kind == ABSENT)
        return NOT_SUPPORTED;
    if (value->kind == REFUSED)
        return value->refusal;
    *out = value->kind == NOT_AVAILABLE ? -1 : value->base + value->each_second * now / 1000;
    if (value->kind == NUMBER && value->period > 0) {
        long long quarter = value->period / 4, phase = (now % value->period + value->period) % value->period;
        long long height = phase <= quarter ? phase : phase <= 3 * quarter ? 2 * quarter - phase : phase - 4 * quarter;
        if (quarter > 0)
            *out += value->swing * height / quarter;
    }
    return SUCCESS;
}

int named(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

int code_named(const char *name) {
    if (strncmp(name, "NVML_ERROR_", 11) == 0)
        name += 11;
    for (size_t i = 0; i < sizeof CODE_NAMES / sizeof *CODE_NAMES; i++)
        if (strcmp(CODE_NAMES[i].name, name) == 0)
            return (int)CODE_NAMES[i].number;
    return -1;
}

void copy(char *to, size_t size, const char *text) { snprintf(to, size, "%s", text); }

int whole(const char *text, unsigned long long *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    return end != text && *end == 0 && errno == 0 && *text != '-';
}

int small(const char *text, int limit, int *out) {
    unsigned long long number;
    if (!whole(text, &number) || number >= (unsigned long long)limit)
        return 0;
    *out = (int)number;
    return 1;
}

int duration(const char *text, char **end, long long *out) {
    double number = strtod(text, end), scale = 1000;
    if (*end == text || number < 0)
        return 0;
    if (strncmp(*end, "ms", 2) == 0)
        scale = 1, *end += 2;
    else if (**end == 's')
        *end += 1;
    else if (**end == 'm')
        scale = 60000, *end += 1;
    *out = (long long)(number * scale + 0.5);
    return 1;
}

int whole_duration(const char *text, long long *out) {
    char *end;
    return duration(text, &end, out) && *end == 0;
}

int quantity(const char *text, char **end, long long *out) {
    static const struct {
        const char *unit;
        double scale;
    } UNITS[] = {{"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"W", 1000.0}};
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        *out = (long long)strtoull(text, end, 16);
        return *end != text;
    }
    double number = strtod(text, end);
    if (*end == text)
        return 0;
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++)
        if (strncmp(*end, UNITS[i].unit, strlen(UNITS[i].unit)) == 0) {
            number *= UNITS[i].scale;
            *end += strlen(UNITS[i].unit);
            break;
        }
    *out = (long long)(number < 0 ? number - 0.5 : number + 0.5);
    return 1;
}

int parse_value(const char *text, struct value *value) {
    char *end;
    int code = code_named(text);
    memset(value, 0, sizeof *value);
    if (code > 0) {
        value->kind = REFUSED, value->refusal = (unsigned)code;
        return 1;
    }
    if (strcmp(text, "NA") == 0) {
        value->kind = NOT_AVAILABLE;
        return 1;
    }
    value->kind = NUMBER;
    if (!quantity(text, &end, &value->base))
        return 0;
    if (*end == '+') {
        if (!quantity(end + 1, &end, &value->each_second) || strncmp(end, "/s", 2) != 0)
            return 0;
        end += 2;
    }
    if (*end == '~') {
        if (!quantity(end + 1, &end, &value->swing) || *end != '/' || !duration(end + 1, &end, &value->period))
            return 0;
    }
    return *end == 0;
}
