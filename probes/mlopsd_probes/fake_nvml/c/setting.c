/* What a scenario says of a card. */

#include "line.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const KEY_NAMES[] = {
#define X(name, text) text,
    KEYS(X)
#undef X
};
static const char *const LINK_KEY_NAMES[] = {
#define X(name, text) text,
    LINK_KEYS(X)
#undef X
};
static const char *const TEXT_NAMES[] = {
#define X(name, text) text,
    TEXTS(X)
#undef X
};

static int parse_type(const char *text) {
    static const char *const TYPES[] = {"f64", "u32", "ulong", "u64", "i64", "i32", "u16"};
    return named(TYPES, 7, text);
}

static const char *set_link(struct line *line, struct card *card, const char *name) {
    int first = 0, last = LINKS - 1;
    if (isdigit((unsigned char)*name)) {
        char *end;
        unsigned long link = strtoul(name, &end, 10);
        if (link >= LINKS || *end != '.')
            return "no such NVLink";
        first = last = (int)link;
        name = end + 1;
    }
    int pci = strcmp(name, "remote_pci") == 0, key = named(LINK_KEY_NAMES, LINK_KEY_COUNT, name);
    struct value value = {0};
    if (line->count != 2 || (!pci && (key < 0 || !parse_value(line->words[1], &value))))
        return "no such setting of an NVLink, or no such value";
    for (int i = first; i <= last; i++) {
        if (pci)
            copy(card->links[i].remote_pci, sizeof card->links[i].remote_pci, line->words[1]);
        else
            card->links[i].values[key] = value;
    }
    return 0;
}

/* field.ID[.SCOPE] VALUE [TYPE] */
static const char *set_field(struct line *line, struct card *card, const char *name) {
    struct field field = {.scope = NONE, .type = -1};
    char *end;
    field.id = (unsigned)strtoul(name, &end, 10);
    if (*end == '.')
        field.scope = (unsigned)strtoul(end + 1, &end, 10);
    if (end == name || *end || line->count < 2 || line->count > 3 || !parse_value(line->words[1], &field.value))
        return "a field is: field.ID[.SCOPE] VALUE [f64|u32|ulong|u64|i64|i32|u16]";
    if (line->count == 3 && (field.type = parse_type(line->words[2])) < 0)
        return "no such type of a field";
    int at = 0;
    while (at < card->field_count && (card->fields[at].id != field.id || card->fields[at].scope != field.scope))
        at++;
    if (at == FIELDS)
        return "too many fields";
    if (at == card->field_count)
        card->field_count++;
    card->fields[at] = field;
    return 0;
}

static int is_none(const struct line *line) { return line->count == 2 && strcmp(line->words[1], "none") == 0; }

static const char *add_process(struct line *line, struct card *card) {
    unsigned long long pid, gpu = NONE, compute = NONE;
    struct process process = {0};
    if (is_none(line)) {
        card->process_count = 0;
        return 0;
    }
    if ((line->count != 4 && line->count != 6) || !strchr("cgm", *line->words[1]) || !whole(line->words[2], &pid)
        || !parse_value(line->words[3], &process.memory)
        || (line->count == 6 && (!whole(line->words[4], &gpu) || !whole(line->words[5], &compute))))
        return "a process is: process compute|graphics|mps PID MEMORY [GPU-INSTANCE COMPUTE-INSTANCE], or: process none";
    if (card->process_count == PROCESSES)
        return "too many processes";
    process.family = *line->words[1];
    process.pid = (unsigned)pid, process.gpu = (unsigned)gpu, process.compute = (unsigned)compute;
    card->processes[card->process_count++] = process;
    return 0;
}

static const char *add_instance(struct line *line, struct card *card) {
    unsigned long long gpu, compute, multiprocessors;
    struct instance instance = {0};
    char *end;
    if (is_none(line)) {
        card->instance_count = 0;
        return 0;
    }
    if (line->count != 8 || !whole(line->words[1], &gpu) || !whole(line->words[2], &compute)
        || !whole(line->words[4], &multiprocessors) || !quantity(line->words[5], &end, &instance.total) || *end
        || !quantity(line->words[6], &end, &instance.used) || *end)
        return "an instance is: mig GPU-INSTANCE COMPUTE-INSTANCE PROFILE MULTIPROCESSORS TOTAL USED UUID, or: mig none";
    if (card->instance_count == INSTANCES)
        return "too many instances";
    instance.gpu = (unsigned)gpu, instance.compute = (unsigned)compute;
    instance.multiprocessors = (unsigned)multiprocessors;
    copy(instance.profile, sizeof instance.profile, line->words[3]);
    copy(instance.uuid, sizeof instance.uuid, line->words[7]);
    card->instances[card->instance_count++] = instance;
    return 0;
}

static const char *add_page(struct line *line, struct card *card) {
    struct page page = {0};
    if (is_none(line)) {
        card->page_count = 0;
        return 0;
    }
    if (line->count != 4 || !whole(line->words[2], &page.address) || !whole(line->words[3], &page.timestamp)
        || !strchr("sd", *line->words[1]))
        return "a retired page is: page single|double ADDRESS UNIX-TIME, or: page none";
    if (card->page_count == PAGES)
        return "too many retired pages";
    page.double_bit = *line->words[1] == 'd';
    card->pages[card->page_count++] = page;
    return 0;
}

static const char *set_state(struct line *line, struct card *card) {
    static const char *const STATES[] = {"well", "lost", "reset_required", "gone"};
    static const unsigned REFUSALS[] = {SUCCESS, GPU_IS_LOST, RESET_REQUIRED, GPU_IS_LOST};
    int state = named(STATES, 4, line->words[0]);
    card->refusal = REFUSALS[state];
    card->gone = state == 3;
    return 0;
}

static const char *set_text(struct line *line, struct card *card, int text) {
    if (line->count < 2)
        return "a name without a value";
    card->texts[text][0] = 0;
    for (int i = 1; i < line->count; i++) {
        size_t used = strlen(card->texts[text]);
        snprintf(card->texts[text] + used, TEXT - used, "%s%s", i > 1 ? " " : "", line->words[i]);
    }
    return 0;
}

const char *for_card(struct line *line, struct card *card) {
    const char *first = line->words[0];
    int key = named(KEY_NAMES, KEY_COUNT, first), text = named(TEXT_NAMES, TEXT_COUNT, first);
    if (key >= 0) {
        if (line->count == 2 && strcmp(line->words[1], "absent") == 0)
            memset(&card->values[key], 0, sizeof card->values[key]);
        else if (line->count != 2 || !parse_value(line->words[1], &card->values[key]))
            return "no such value";
        return 0;
    }
    if (text >= 0)
        return set_text(line, card, text);
    if (strncmp(first, "nvlink.", 7) == 0)
        return set_link(line, card, first + 7);
    if (strncmp(first, "field.", 6) == 0)
        return set_field(line, card, first + 6);
    if (strcmp(first, "process") == 0)
        return add_process(line, card);
    if (strcmp(first, "mig") == 0)
        return add_instance(line, card);
    if (strcmp(first, "page") == 0)
        return add_page(line, card);
    if (strcmp(first, "well") == 0 || strcmp(first, "lost") == 0 || strcmp(first, "reset_required") == 0
        || strcmp(first, "gone") == 0)
        return line->count == 1 ? set_state(line, card) : "a state stands alone";
    return "no such setting";
}
