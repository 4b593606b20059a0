#define _POSIX_C_SOURCE 200809L

#include "scenario.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 16, BASE = -1 };

static const char *const FUNCTION_NAMES[] = {
#define X(name) #name,
    FUNCTIONS(X)
#undef X
};
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
static const struct {
    unsigned number;
    const char *name;
} CODE_NAMES[] = {
#define X(number, name, text) {number, #name},
    CODES(X)
#undef X
};

struct line { /* one directive: its words, and whom it is for */
    char *words[WORDS];
    int count, card;
    struct once *moment; /* where an XID or a reload goes instead of the list */
};

const char *function_name(int function) { return FUNCTION_NAMES[function]; }

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

static int named(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static int code_named(const char *name) {
    if (strncmp(name, "NVML_ERROR_", 11) == 0)
        name += 11;
    for (size_t i = 0; i < sizeof CODE_NAMES / sizeof *CODE_NAMES; i++)
        if (strcmp(CODE_NAMES[i].name, name) == 0)
            return (int)CODE_NAMES[i].number;
    return -1;
}

static void copy(char *to, size_t size, const char *text) { snprintf(to, size, "%s", text); }

static int whole(const char *text, unsigned long long *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    return end != text && *end == 0 && errno == 0 && *text != '-';
}

static int small(const char *text, int limit, int *out) {
    unsigned long long number;
    if (!whole(text, &number) || number >= (unsigned long long)limit)
        return 0;
    *out = (int)number;
    return 1;
}

/* 5s, 250ms, 2m or 1.5 (seconds) in ms; where it ends in *end*. */
static int duration(const char *text, char **end, long long *out) {
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

static int whole_duration(const char *text, long long *out) {
    char *end;
    return duration(text, &end, out) && *end == 0;
}

/* 42, 0x1F, 80GiB (bytes), 85.2W (milliwatts). */
static int quantity(const char *text, char **end, long long *out) {
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

/* A quantity, with +N/s for what it grows by and ~N/30s for how it swings; NA; or the name of an error. */
static int parse_value(const char *text, struct value *value) {
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

static const char *add_process(struct line *line, struct card *card) {
    unsigned long long pid, gpu = NONE, compute = NONE;
    struct process process = {0};
    if (line->count == 2 && strcmp(line->words[1], "none") == 0) {
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
    if (line->count == 2 && strcmp(line->words[1], "none") == 0) {
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
    if (line->count == 2 && strcmp(line->words[1], "none") == 0) {
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

static const char *for_card(struct line *line, struct card *card) {
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

static int matches(const char *pattern, const char *name) {
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*')
        return strncmp(pattern, name, length - 1) == 0;
    return strcmp(pattern, name) == 0;
}

static void forget_faults(struct scenario *scenario, const char *pattern, int card) {
    int kept = 0;
    for (int i = 0; i < scenario->fault_count; i++) {
        struct fault *fault = &scenario->faults[i];
        if (strcmp(fault->pattern, pattern) != 0 || fault->card != card)
            scenario->faults[kept++] = *fault;
    }
    scenario->fault_count = kept;
}

/* A later line replaces an earlier one of the same call and card. */
static const char *add_fault(struct scenario *scenario, struct fault *fault, const char *pattern) {
    int any = 0;
    copy(fault->pattern, sizeof fault->pattern, pattern);
    for (int i = 0; i < FUNCTION_COUNT; i++)
        any |= fault->calls[i] = (unsigned char)matches(pattern, FUNCTION_NAMES[i]);
    if (!any && fault->kind != MISSING)
        return "no such call";
    forget_faults(scenario, pattern, fault->card);
    if (scenario->fault_count == FAULTS)
        return "too many faults";
    scenario->faults[scenario->fault_count++] = *fault;
    return 0;
}

static const char *set_fault(struct scenario *scenario, struct line *line) {
    struct fault fault = {.card = line->card, .times = -1};
    char **words = line->words;
    int code;
    if (strcmp(words[0], "error") == 0) {
        if ((line->count != 3 && line->count != 5) || (code = code_named(words[2])) <= 0
            || (line->count == 5 && (strcmp(words[3], "times") != 0 || !small(words[4], 1 << 30, &fault.times))))
            return "an error is: error CALL CODE [times N] [gpu N]";
        fault.kind = REFUSE, fault.code = (unsigned)code;
    } else if (strcmp(words[0], "delay") == 0) {
        if (line->count != 3 || !whole_duration(words[2], &fault.delay))
            return "a delay is: delay CALL 4s [gpu N]";
        fault.kind = DELAY;
    } else if (strcmp(words[0], "hang") == 0) {
        int deaf = line->count == 3 && strcmp(words[2], "deaf") == 0;
        if (line->count != 2 && !deaf)
            return "a hang is: hang CALL [deaf] [gpu N]";
        fault.kind = deaf ? HANG_DEAF : HANG;
    } else {
        if (line->count != 2)
            return "a missing call is: missing CALL";
        fault.kind = MISSING;
    }
    return add_fault(scenario, &fault, words[1]);
}

static const char *set_moment(struct scenario *scenario, struct line *line) {
    struct once moment = {.card = line->card, .xid = 0};
    if (strcmp(line->words[0], "xid") == 0) {
        if (line->count != 2 || !whole(line->words[1], &moment.xid) || moment.xid == 0 || line->card == EVERY_CARD)
            return "an XID is: xid NUMBER gpu N";
    } else if (line->count != 1) {
        return "a reload stands alone";
    }
    if (line->moment)
        *line->moment = moment;
    else if (scenario->once_count == ONCE)
        return "too many XIDs";
    else
        scenario->once[scenario->once_count++] = moment;
    return 0;
}

static const char *set_counted(struct scenario *scenario, const char *when) {
    if (strcmp(when, "at_init") != 0 && strcmp(when, "anew") != 0)
        return "cards are: counted at_init, or: counted anew";
    scenario->counted_at_init = strcmp(when, "at_init") == 0;
    return 0;
}

/* NAME VALUE of the host; *known* says whether there is such a name. */
static const char *set_host(struct scenario *scenario, char **words, int *known) {
    if (strcmp(words[0], "driver") == 0)
        copy(scenario->driver, TEXT, words[1]);
    else if (strcmp(words[0], "nvml") == 0)
        copy(scenario->nvml, TEXT, words[1]);
    else if (strcmp(words[0], "cuda") == 0)
        return small(words[1], 1 << 30, &scenario->cuda) ? 0 : "cuda is a number, as 12040 for 12.4";
    else if (strcmp(words[0], "cards") == 0)
        return small(words[1], CARDS + 1, &scenario->count) ? 0 : "too many cards";
    else if (strcmp(words[0], "counted") == 0)
        return set_counted(scenario, words[1]);
    else
        *known = 0;
    return 0;
}

static const char *for_host(struct scenario *scenario, struct line *line, int *known) {
    char **words = line->words;
    *known = 1;
    if (strcmp(words[0], "error") == 0 || strcmp(words[0], "delay") == 0 || strcmp(words[0], "hang") == 0
        || strcmp(words[0], "missing") == 0)
        return set_fault(scenario, line);
    if (strcmp(words[0], "xid") == 0 || strcmp(words[0], "reload") == 0)
        return set_moment(scenario, line);
    if (line->count == 3 && strcmp(words[0], "init") == 0 && strcmp(words[1], "error") == 0) {
        struct line same = {.words = {"error", "nvmlInit*", words[2]}, .count = 3, .card = EVERY_CARD};
        return set_fault(scenario, &same);
    }
    if (line->count == 2 && strcmp(words[0], "works") == 0) {
        forget_faults(scenario, words[1], line->card);
        return 0;
    }
    if (line->count == 2)
        return set_host(scenario, words, known);
    *known = 0;
    return 0;
}

static const char *apply(struct scenario *scenario, struct line *line) {
    int known;
    const char *mistake = for_host(scenario, line, &known);
    if (known)
        return mistake;
    for (int i = 0; i < CARDS && !mistake; i++)
        if (line->card == EVERY_CARD || line->card == i)
            mistake = for_card(line, &scenario->cards[i]);
    return mistake;
}

/* Splits *text* in place; a trailing "gpu N" says whom it is for. */
static const char *split(char *text, struct line *line) {
    char *rest = 0;
    line->count = 0;
    for (char *word = strtok_r(text, " \t\r\n", &rest); word; word = strtok_r(0, " \t\r\n", &rest)) {
        if (line->count == WORDS)
            return "too many words";
        line->words[line->count++] = word;
    }
    if (line->count > 2 && strcmp(line->words[line->count - 2], "gpu") == 0) {
        if (!small(line->words[line->count - 1], CARDS, &line->card))
            return "no such card";
        line->count -= 2;
    } else if (line->count > 2 && strcmp(line->words[0], "gpu") == 0) {
        if (!small(line->words[1], CARDS, &line->card))
            return "no such card";
        line->count -= 2;
        memmove(line->words, line->words + 2, (size_t)line->count * sizeof *line->words);
    }
    return 0;
}

/* [card N], [card *], [host] */
static const char *section(const char *text, int *card, int *count) {
    char name[16], closing[4];
    if (sscanf(text, "[card %15[0-9*]%3[]]", name, closing) == 2) {
        *card = EVERY_CARD;
        if (strcmp(name, "*") != 0 && !small(name, CARDS, card))
            return "no such card";
        if (*card >= *count)
            *count = *card + 1;
        return 0;
    }
    if (strncmp(text, "[host]", 6) != 0)
        return "a section is [host], [card N] or [card *]";
    *card = EVERY_CARD;
    return 0;
}

static int by_time(const void *a, const void *b) {
    const struct event *one = a, *other = b;
    return one->at != other->at ? (one->at > other->at) - (one->at < other->at) : one->line - other->line;
}

/* at 5s DIRECTIVE: kept for later, and tried on a copy so that a mistake shows when the file is read. */
static const char *keep(struct scenario *scenario, const char *text, int card, int number, struct scenario *trial) {
    struct event *event = &scenario->events[scenario->event_count];
    struct once ignored;
    struct line line = {.card = card, .moment = &ignored};
    char scratch[LINE], *end;
    if (scenario->event_count == EVENTS)
        return "too many events";
    while (isspace((unsigned char)*text))
        text++;
    if (!duration(text, &end, &event->at) || !isspace((unsigned char)*end))
        return "an event is: at 5s DIRECTIVE";
    event->card = card, event->line = number;
    copy(event->text, LINE, end);
    copy(scratch, LINE, end);
    const char *mistake = split(scratch, &line);
    if (!mistake)
        mistake = line.count ? apply(trial, &line) : "an event is: at 5s DIRECTIVE";
    if (!mistake)
        scenario->event_count++;
    return mistake;
}

static const char *read_line(struct scenario *scenario, char *text, int *card, int *highest, int number,
                             struct scenario *trial) {
    struct line line = {.card = *card, .moment = 0};
    char *comment = strchr(text, '#');
    if (comment)
        *comment = 0;
    while (isspace((unsigned char)*text))
        text++;
    if (*text == 0)
        return 0;
    if (*text == '[')
        return section(text, card, highest);
    if (strncmp(text, "at ", 3) == 0)
        return keep(scenario, text + 3, *card, number, trial);
    const char *mistake = split(text, &line);
    return mistake ? mistake : apply(scenario, &line);
}

/* What a card has without being told: an address, an identity and a number, each its own. */
static void name_cards(struct scenario *scenario) {
    for (int i = 0; i < CARDS; i++) {
        struct card *card = &scenario->cards[i];
        if (!card->texts[T_PCI][0])
            snprintf(card->texts[T_PCI], TEXT, "00000000:%02X:00.0", i + 1);
        if (!card->texts[T_UUID][0])
            snprintf(card->texts[T_UUID], TEXT, "GPU-00000000-fa4e-0000-0000-%012d", i);
        if (card->values[K_MINOR].kind == ABSENT)
            card->values[K_MINOR] = (struct value){.kind = NUMBER, .base = i};
    }
}

int scenario_read(struct scenario *scenario, const char *path, char *why, int size) {
    char text[LINE];
    int card = EVERY_CARD, highest = 0, number = 0;
    const char *mistake = 0;
    FILE *file = fopen(path, "re");
    struct scenario *trial = file ? calloc(1, sizeof *trial) : 0;
    if (!trial) {
        snprintf(why, (size_t)size, "%s: %s", path, strerror(errno));
        if (file)
            fclose(file);
        return 0;
    }
    memset(scenario, 0, sizeof *scenario);
    scenario->count = BASE;
    while (!mistake && fgets(text, sizeof text, file)) {
        number++;
        if (!strchr(text, '\n') && !feof(file))
            mistake = "the line is too long";
        else
            mistake = read_line(scenario, text, &card, &highest, number, trial);
    }
    if (ferror(file))
        mistake = strerror(errno);
    fclose(file);
    free(trial);
    if (mistake) {
        snprintf(why, (size_t)size, "%s:%d: %s", path, number, mistake);
        return 0;
    }
    if (scenario->count == BASE)
        scenario->count = highest;
    qsort(scenario->events, (size_t)scenario->event_count, sizeof *scenario->events, by_time);
    name_cards(scenario);
    return 1;
}

const struct event *scenario_advance(struct scenario *scenario, long long now, struct once *moment) {
    if (scenario->applied == scenario->event_count || scenario->events[scenario->applied].at > now)
        return 0;
    const struct event *event = &scenario->events[scenario->applied++];
    struct line line = {.card = event->card, .moment = moment};
    char scratch[LINE];
    moment->card = CARDS;
    copy(scratch, LINE, event->text);
    split(scratch, &line);
    apply(scenario, &line); /* it was tried when the file was read */
    return event;
}
