#define _POSIX_C_SOURCE 200809L

#include "host.h"
#include "counts.h"
#include "notice.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SETS = 16, LOG = 1024, STEP = 20 }; /* ms between two looks at the file while a call hangs */

struct event_set {
    int used;
    unsigned long long types[CARDS];
    unsigned long since[CARDS], seen; /* of the log */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct scenario *scenario, *spare;
static struct stat stamp;      /* of the file that was read last */
static long long begun, told;  /* ms: the start, and until when moments were told */
static int inits, counted;     /* how often nvmlInit was called, and how many cards it found */
static unsigned long loads = 1, initialised_under; /* of the driver */
static struct once happened[LOG];
static unsigned long happenings;
static struct event_set sets[SETS];
static struct handle handles[CARDS][INSTANCES + 1];

/* Which calls are of use on a MIG instance is said by who begins them; these answer before nvmlInit. */
int needs_no_init(enum function function) {
    return function == F_nvmlInit || function == F_nvmlInit_v2 || function == F_nvmlInitWithFlags
        || function == F_nvmlErrorString || function == F_nvmlSystemGetNVMLVersion
        || function == F_nvmlSystemGetCudaDriverVersion || function == F_nvmlSystemGetCudaDriverVersion_v2;
}

static long long ms(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#ifdef CHEAP /* for who measures what asking costs: the file is read once, nothing happens, and each call is a ms */
static long long scenario_time(void) { return ++begun; }
#else
/* ms since FAKE_NVML_EPOCH (unix time), else since the first call of this process. */
static long long scenario_time(void) {
    if (begun == 0) {
        const char *epoch = getenv("FAKE_NVML_EPOCH");
        begun = epoch && *epoch ? (long long)(strtod(epoch, 0) * 1000) : ms(CLOCK_REALTIME);
    }
    return ms(CLOCK_REALTIME) - begun;
}
#endif

static void nap(long long span) {
    struct timespec rest = {span / 1000, span % 1000 * 1000000};
    nanosleep(&rest, 0); /* a signal cuts it short; the caller looks at the clock */
}

static void happen(const struct once *moment) {
    if (moment->xid == 0)
        loads++;
    else
        happened[happenings++ % LOG] = *moment;
}

static int occurrences(const struct scenario *of, int until, const struct once *like) {
    int count = 0;
    for (int i = 0; i < until; i++)
        count += of->once[i].card == like->card && of->once[i].xid == like->xid;
    return count;
}

/* A moment without a time happens when its line is new in the file. */
static void tell_new_moments(const struct scenario *before, const struct scenario *after) {
    for (int i = 0; i < after->once_count; i++)
        if (occurrences(after, i, &after->once[i]) >= occurrences(before, before->once_count, &after->once[i]))
            happen(&after->once[i]);
}

static void advance(long long now) {
    struct once moment;
    const struct event *event;
    while ((event = scenario_advance(scenario, now, &moment)))
        if (moment.card != CARDS && event->at > told)
            happen(&moment);
    if (now > told)
        told = now;
}

static int same_file(const struct stat *one, const struct stat *other) {
    return one->st_ino == other->st_ino && one->st_size == other->st_size
        && one->st_mtim.tv_sec == other->st_mtim.tv_sec && one->st_mtim.tv_nsec == other->st_mtim.tv_nsec;
}

/* Reads the file again if it is another; a mistake in it is told once, and what was read before stays. */
static void look(long long now) {
    const char *path = getenv("FAKE_NVML_SCENARIO");
    struct stat is;
    char why[512];
    if (!path || stat(path, &is) != 0 || same_file(&is, &stamp))
        return;
    if (!spare && !(spare = malloc(sizeof *spare)))
        return;
    stamp = is;
    if (!scenario_read(spare, path, why, sizeof why)) {
        fprintf(stderr, "fake NVML: cannot read the scenario: %s\n", why);
        return;
    }
    if (!scenario)
        told = now; /* what was before this process is not told to it */
    else
        tell_new_moments(scenario, spare);
    struct scenario *old = scenario;
    scenario = spare, spare = old;
}

#ifdef CHEAP
static void refresh(void) {
    if (!scenario)
        look(0);
}
static long long until_next(long long left) { return left; }
#else
static void refresh(void) {
    long long now = scenario_time();
    look(now);
    if (scenario)
        advance(now);
}

/* ms until the scenario's next event, but *left* at most. */
static long long until_next(long long left) {
    long long next = scenario_next(scenario), now = scenario_time();
    return next >= now + left ? left : next > now ? next - now : 1;
}
#endif

/* Of several the last in the file. */
static struct fault *fault_of(enum function function, int card) {
    for (int i = scenario->fault_count - 1; i >= 0; i--) {
        struct fault *fault = &scenario->faults[i];
        if (fault->calls[function] && (fault->card == EVERY_CARD || fault->card == card) && fault->times != 0)
            return fault;
    }
    return 0;
}

static int hangs(const struct fault *fault) { return fault && (fault->kind == HANG || fault->kind == HANG_DEAF); }

/* Never returns while the scenario says so; the lock is free meanwhile, and held again afterwards. */
static void hang(enum function function, int card) {
    const struct fault *fault = fault_of(function, card);
    if (fault->kind == HANG_DEAF)
        signal(SIGTERM, SIG_IGN);
    while (hangs(fault)) {
        pthread_mutex_unlock(&lock);
        nap(STEP);
        pthread_mutex_lock(&lock);
        refresh();
        fault = fault_of(function, card);
    }
}

/* When *span* will have passed in full: the ms of now is over in part. */
static long long after(long long span) { return ms(CLOCK_MONOTONIC) + span + 1; }

static void wait_ms(long long span) {
    long long end = after(span), left;
    pthread_mutex_unlock(&lock);
    while ((left = end - ms(CLOCK_MONOTONIC)) > 0)
        nap(left);
    pthread_mutex_lock(&lock);
    refresh();
}

/* In the midst of a long call: it may begin to hang, or be refused. */
static nvmlReturn_t strike_again(enum function function) {
    const struct fault *fault = fault_of(function, EVERY_CARD);
    if (hangs(fault))
        hang(function, EVERY_CARD);
    return fault && fault->kind == REFUSE && fault->times < 0 ? fault->code : SUCCESS;
}

static nvmlReturn_t strike(enum function function, int card) {
    struct fault *fault = fault_of(function, card);
    if (hangs(fault)) {
        hang(function, card);
        fault = fault_of(function, card);
    }
    if (!fault)
        return SUCCESS;
    if (fault->times > 0)
        fault->times--;
    if (fault->kind == MISSING)
        return FUNCTION_NOT_FOUND;
    if (fault->kind == REFUSE)
        return fault->code;
    wait_ms(fault->delay);
    return SUCCESS;
}

static void arrive(enum function function) {
    pthread_mutex_lock(&lock);
    count_call(function);
    refresh();
}

static nvmlReturn_t admit(enum function function, int card) {
    if (!scenario)
        return DRIVER_NOT_LOADED;
    nvmlReturn_t refused = strike(function, card);
    if (refused != SUCCESS || needs_no_init(function) || function == F_nvmlShutdown)
        return refused;
    return inits == 0 || initialised_under != loads ? UNINITIALIZED : SUCCESS;
}

static nvmlReturn_t enter(enum function function, int card) {
    arrive(function);
    return admit(function, card);
}

nvmlReturn_t finish(nvmlReturn_t answer) {
    pthread_mutex_unlock(&lock);
    return answer;
}

static struct call begun_call(nvmlReturn_t refused) {
    struct call call = {.refused = refused, .number = EVERY_CARD};
    if (refused != SUCCESS)
        pthread_mutex_unlock(&lock);
    else
        call.now = scenario_time();
    return call;
}

struct call begin(enum function function) { return begun_call(enter(function, EVERY_CARD)); }

/* A card may lack what it is asked for, but never its handle. */
static int lacks_handle(enum function function, int card) {
    const struct fault *fault = fault_of(function, card);
    return fault && fault->card == card && fault->kind == REFUSE
        && (fault->code == NOT_SUPPORTED || fault->code == NO_DATA || fault->code == NOT_READY
            || fault->code == DEPRECATED || fault->code == FUNCTION_NOT_FOUND);
}

struct call begin_search(enum function function, int (*find)(const void *), const void *what) {
    arrive(function);
    int card = scenario ? find(what) : -1;
    int struck = card < 0 || lacks_handle(function, card) ? EVERY_CARD : card;
    struct call call = begun_call(admit(function, struck));
    call.number = card;
    return call;
}

static const struct handle *known(nvmlDevice_t device) {
    const struct handle *first = &handles[0][0], *end = first + CARDS * (INSTANCES + 1);
    return device >= first && device < end ? device : 0;
}

static nvmlReturn_t card_state(const struct handle *handle) {
    const struct card *card = &scenario->cards[handle->card];
    if (handle->card >= scenario->count)
        return GPU_IS_LOST;
    if (handle->instance >= card->instance_count)
        return NOT_FOUND;
    return card->refusal;
}

struct call begin_on(enum function function, nvmlDevice_t device) {
    const struct handle *handle = known(device);
    nvmlReturn_t refused = enter(function, handle ? handle->card : EVERY_CARD);
    if (refused == SUCCESS)
        refused = handle ? card_state(handle) : INVALID_ARGUMENT;
    struct call call = begun_call(refused);
    if (refused == SUCCESS) {
        call.card = &scenario->cards[handle->card];
        call.number = handle->card;
        call.instance = handle->instance < 0 ? 0 : &call.card->instances[handle->instance];
    }
    return call;
}

struct call begin_on_card(enum function function, nvmlDevice_t device) {
    struct call call = begin_on(function, device);
    if (call.refused == SUCCESS && call.instance)
        call.refused = finish(NOT_SUPPORTED);
    return call;
}

struct scenario *scenario_now(void) { return scenario; }

static int present(int card) { return card < scenario->count && !scenario->cards[card].gone; }

static int count_now(void) {
    int count = 0;
    for (int i = 0; i < CARDS; i++)
        count += present(i);
    return count;
}

int card_count(void) { return scenario->counted_at_init ? counted : count_now(); }

int card_at(int index) {
    for (int i = 0; i < CARDS; i++)
        if (present(i) && index-- == 0)
            return i;
    return -1;
}

int index_of(int card) {
    int index = 0;
    for (int i = 0; i < card; i++)
        index += present(i);
    return present(card) ? index : -1;
}

nvmlDevice_t handle_of(int card, int instance) {
    struct handle *handle = &handles[card][instance + 1];
    handle->card = card;
    handle->instance = instance;
    return handle;
}

/* As with the driver, only the first of several brings it up; one that went stale needs the last shutdown first. */
nvmlReturn_t initialise(void) {
    if (inits++ == 0) {
        initialised_under = loads;
        counted = count_now();
    }
    return SUCCESS;
}

nvmlReturn_t shut_down(void) {
    if (inits == 0)
        return UNINITIALIZED;
    if (--inits == 0)
        memset(sets, 0, sizeof sets);
    return SUCCESS;
}

static int is_set(nvmlEventSet_t set) { return set >= sets && set < sets + SETS && set->used; }

nvmlReturn_t create_set(nvmlEventSet_t *set) {
    for (int i = 0; i < SETS; i++)
        if (!sets[i].used) {
            memset(&sets[i], 0, sizeof sets[i]);
            sets[i].used = 1;
            sets[i].seen = happenings;
            *set = &sets[i];
            return SUCCESS;
        }
    return INSUFFICIENT_RESOURCES;
}

nvmlReturn_t register_card(nvmlEventSet_t set, int card, unsigned long long types) {
    if (!is_set(set))
        return INVALID_ARGUMENT;
    if (set->types[card] == 0)
        set->since[card] = happenings;
    set->types[card] |= types;
    return SUCCESS;
}

nvmlReturn_t free_set(nvmlEventSet_t set) {
    if (!is_set(set))
        return INVALID_ARGUMENT;
    set->used = 0;
    return SUCCESS;
}

static int next_event(nvmlEventSet_t set, struct nvmlEventData *data) {
    while (set->seen < happenings) {
        unsigned long at = set->seen++;
        const struct once *moment = &happened[at % LOG];
        if (at + LOG < happenings || !(set->types[moment->card] & EVENT_XID) || at < set->since[moment->card])
            continue;
        *data = (struct nvmlEventData){handle_of(moment->card, -1), EVENT_XID, moment->xid, NONE, NONE};
        return 1;
    }
    return 0;
}

nvmlReturn_t wait_for_event(enum function function, nvmlEventSet_t set, unsigned timeout, struct nvmlEventData *data) {
    nvmlReturn_t answer = enter(function, EVERY_CARD);
    long long end = after(timeout), left;
    if (answer != SUCCESS)
        return finish(answer);
    while (is_set(set) && inits > 0 && initialised_under == loads && !next_event(set, data)) {
        if ((left = end - ms(CLOCK_MONOTONIC)) <= 0)
            return finish(TIMEOUT);
        left = until_next(left);
        notice(getenv("FAKE_NVML_SCENARIO"));
        pthread_mutex_unlock(&lock);
        sleep_until_noticed(left);
        pthread_mutex_lock(&lock);
        refresh();
        if ((answer = strike_again(function)) != SUCCESS)
            return finish(answer);
    }
    if (inits == 0 || initialised_under != loads)
        return finish(UNINITIALIZED);
    return finish(is_set(set) ? SUCCESS : INVALID_ARGUMENT);
}
