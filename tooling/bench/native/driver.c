/*
 * Plays the kernel's side of dm-log-userspace: sends requests to connector group 7, measures every round trip, checks every
 * reply. Commands come on stdin, one per line; each prints one line of JSON. Times are nanoseconds of CLOCK_MONOTONIC.
 *
 *   driver [--netns-of PID]
 *   open log=I uuid=U regions=N size=SECTORS args=REST OF LINE   CTR "<N*SECTORS> ARGS", GET_REGION_SIZE, RESUME
 *   prepare …same…                                               only remembers the log, for script=lifecycle
 *   run script=S pattern=random|seq|hot lanes=K log=I logs=L ms=T cycles=C wait=sleep|spin strict=0|1
 *       K requests are in flight; lane k plays the script on log I + k % L; ends after T ms or C cycles (0: no limit)
 *   close log=I                                                  PRESUSPEND, POSTSUSPEND, DTR
 *
 * A reply that is not what the kernel would accept ends the driver with status 1 and {"fail": reason}. A request without a
 * reply within REPLY_TIMEOUT_NS is counted as lost and sent again under a new seq, as the kernel does. A reply whose seq
 * nobody waits for is counted as stale. strict=1 also checks what a real log must say, which the echo does not know.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/time.h>

#include "check.h"
#include "samples.h"

enum { LOGS_MAX = 64, LANES_MAX = 64, LINE_BYTES = 1024, REPEATS_MAX = 3, POLL_MS = 100 };
#define REPLY_TIMEOUT_NS 2000000000ull
/* CTR and RESUME may work in proportion to the region count; the kernel gives every request 15 s. */
#define SETUP_TIMEOUT_NS 15000000000ull

static int sock;
static uint32_t next_seq = 1;
static uint64_t random_state = 0x9e3779b97f4a7c15ull;
static struct log logs[LOGS_MAX];
static struct lane lanes[LANES_MAX];
static struct samples rows[LABELS], cycle_row;
static uint64_t lost, stale, foreign, reopened, requests, cycles_begun;
static struct run plan;
static uint8_t frame[FRAME_BYTES];

/* xorshift64*: the bench must not wait for entropy, and every daemon gets the same regions. */
static uint64_t random_below(uint64_t limit) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (random_state * 0x2545f4914f6cdd1dull >> 11) % limit;
}

static uint64_t pick_region(struct log *log) {
  if (!strcmp(plan.pattern, "hot")) return log->regions / 2;
  if (!strcmp(plan.pattern, "seq")) return log->cursor++ % log->regions;
  return random_below(log->regions);
}

static uint32_t put_payload(struct lane *lane, uint8_t *at) {
  const struct step *step = current(lane);
  switch (step->type) {
    case CTR: /* without the terminating NUL, as the kernel sends it the first time */
      memcpy(at, lane->log->payload, strlen(lane->log->payload));
      return (uint32_t)strlen(lane->log->payload);
    case IS_CLEAN: case IN_SYNC: case IS_REMOTE_RECOVERING:
      put64(at, lane->region);
      return 8;
    case SET_REGION_SYNC:
      put64(at, lane->region);
      put64(at + 8, step->argument);
      return 16;
    case MARK_REGION: case CLEAR_REGION:
      if (step->argument == 1) {
        put64(at, lane->region);
        return 8;
      }
      if (step->type == MARK_REGION)
        for (int i = 0; i < step->argument; i++) lane->marks[i] = pick_region(lane->log);
      memcpy(at, lane->marks, 8u * step->argument);
      return 8u * step->argument;
    default: return 0;
  }
}

static void send_step(struct lane *lane) {
  static const struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = 1u << (CN_IDX_DM_LOG - 1)};
  memset(frame, 0, HEAD_BYTES);
  uint32_t bytes = put_payload(lane, frame + AT_DATA);
  lane->seq = next_seq++;
  put32(frame + AT_NL_LEN, HEAD_BYTES + bytes);
  put16(frame + AT_NL_TYPE, NLMSG_DONE);
  put32(frame + AT_CN_IDX, CN_IDX_DM_LOG);
  put32(frame + AT_CN_VAL, CN_VAL_DM_LOG);
  put32(frame + AT_CN_SEQ, lane->seq);
  put16(frame + AT_CN_LEN, (uint16_t)(ULOG_BYTES + bytes));
  put64(frame + AT_LUID, lane->log->luid);
  memcpy(frame + AT_UUID, lane->log->uuid, UUID_BYTES);
  put32(frame + AT_VERSION, ULOG_VERSION);
  put32(frame + AT_SEQ, lane->seq);
  put32(frame + AT_TYPE, current(lane)->type);
  put32(frame + AT_DATA_SIZE, bytes);
  lane->busy = 1;
  lane->began = now_ns();
  /* After the group, sendto() also tries port 0: nobody has it outside the initial network namespace (ECONNREFUSED). */
  if (sendto(sock, frame, padded(HEAD_BYTES + bytes), 0, (const struct sockaddr *)&group, sizeof group) < 0 &&
      errno != ECONNREFUSED)
    fail("cannot send %s: %s", label_names[current(lane)->label], strerror(errno));
}

/* The lane that waits for this datagram, its reply checked; NULL when nobody does. */
static struct lane *match_reply(ssize_t bytes) {
  if (bytes < ACK_BYTES || get32(frame + AT_NL_LEN) > (size_t)bytes || get32(frame + AT_NL_LEN) < ACK_BYTES)
    fail("datagram of %zd bytes with nlmsg_len %u", bytes, get32(frame + AT_NL_LEN));
  if (get32(frame + AT_CN_IDX) != CN_IDX_DM_LOG || get32(frame + AT_CN_VAL) != CN_VAL_DM_LOG) {
    foreign++;
    return NULL;
  }
  const uint32_t cn_bytes = get16(frame + AT_CN_LEN);
  if (cn_bytes != 0 && (cn_bytes < ULOG_BYTES || get32(frame + AT_NL_LEN) < (uint32_t)ACK_BYTES + cn_bytes))
    fail("cn_msg.len %u in a message of %u bytes", cn_bytes, get32(frame + AT_NL_LEN));
  const uint32_t seq = cn_bytes ? get32(frame + AT_SEQ) : get32(frame + AT_CN_SEQ);
  struct lane *lane = NULL;
  for (uint64_t i = 0; i < LANES_MAX && !lane; i++)
    if (lanes[i].busy && lanes[i].seq == seq) lane = &lanes[i];
  if (!lane) {
    stale++;
    return NULL;
  }
  const struct step *step = current(lane);
  const char *name = label_names[step->label];
  const int32_t error = cn_bytes ? (int32_t)get32(frame + AT_ERROR) : -(int32_t)get32(frame + AT_CN_ACK);
  const uint32_t data_bytes = cn_bytes ? get32(frame + AT_DATA_SIZE) : 0;
  if (cn_bytes && data_bytes > cn_bytes - ULOG_BYTES) fail("%s: data_size %u, cn_msg.len %u", name, data_bytes, cn_bytes);
  if (cn_bytes && (get64(frame + AT_LUID) != lane->log->luid || strncmp((char *)frame + AT_UUID, lane->log->uuid, UUID_BYTES)))
    fail("%s: the reply names another log", name);
  if (error) fail("%s on %s: error %d (%s)", name, lane->log->payload, error, strerror(-error));
  uint32_t least, most;
  expected_bytes(step->type, &least, &most);
  if (data_bytes < least || data_bytes > most) fail("%s: %u bytes of data, not %u to %u", name, data_bytes, least, most);
  check_values(lane, frame + AT_DATA, plan.strict);
  return lane;
}

static void begin_cycle(struct lane *lane) {
  lane->script = plan.script;
  lane->step = 0;
  lane->unmeasured = 0;
  lane->region = pick_region(lane->log);
  cycles_begun++;
  send_step(lane);
  lane->cycle_began = lane->began;
}

/* Resync ran out of work: the table is taken down and loaded anew, which a fresh core log answers with all work undone. */
static void begin_reopen(struct lane *lane, const struct script *part) {
  lane->script = part;
  lane->step = 0;
  lane->unmeasured = 1;
  send_step(lane);
}

/* Takes an answered lane to its next request, or leaves it idle when the run is over. */
static void advance(struct lane *lane, uint64_t at, uint64_t deadline) {
  const struct step *step = current(lane);
  if (!lane->unmeasured) {
    sample_add(&rows[step->label], at - lane->began);
    requests++;
  }
  lane->busy = 0;
  lane->repeats = 0;
  if (step->type == GET_RESYNC_WORK && lane->script->follows_work) {
    lane->region = get64(frame + AT_DATA + 8);
    if (get64(frame + AT_DATA) == 0) {
      if (plan.lanes > plan.logs) fail("no resync work is left and %llu lanes share a log: use fewer cycles", (unsigned long long)plan.lanes);
      reopened++;
      begin_reopen(lane, &script_close);
      return;
    }
  }
  lane->step++;
  if (lane->step < STEPS_MAX && current(lane)->type) {
    send_step(lane);
    return;
  }
  if (lane->unmeasured && lane->script == &script_close) {
    begin_reopen(lane, &script_open);
    return;
  }
  if (!lane->unmeasured) sample_add(&cycle_row, at - lane->cycle_began);
  if ((plan.ms && at >= deadline) || (plan.cycles && cycles_begun >= plan.cycles)) {
    lane->active = 0;
    return;
  }
  begin_cycle(lane);
}

static void repeat_unanswered(void) {
  const uint64_t at = now_ns();
  for (uint64_t i = 0; i < plan.lanes; i++) {
    struct lane *lane = &lanes[i];
    if (!lane->busy) continue;
    const uint8_t type = current(lane)->type;
    const uint64_t limit = type == CTR || type == RESUME ? SETUP_TIMEOUT_NS : REPLY_TIMEOUT_NS;
    if (at - lane->began < limit) continue;
    lost++;
    if (++lane->repeats >= REPEATS_MAX) fail("%s: no reply to %d requests", label_names[current(lane)->label], REPEATS_MAX);
    send_step(lane);
  }
}

static int any_active(void) {
  for (uint64_t i = 0; i < plan.lanes; i++)
    if (lanes[i].active) return 1;
  return 0;
}

/* Plays `plan` to its end. Returns the wall time in ns. */
static uint64_t play(void) {
  for (int i = 0; i < LABELS; i++) samples_reset(&rows[i]);
  samples_reset(&cycle_row);
  lost = stale = foreign = reopened = requests = cycles_begun = 0;
  memset(lanes, 0, sizeof lanes);
  const uint64_t start = now_ns(), deadline = start + plan.ms * 1000000ull;
  for (uint64_t i = 0; i < plan.lanes; i++) {
    lanes[i].log = &logs[plan.log + i % plan.logs];
    lanes[i].active = 1;
    begin_cycle(&lanes[i]);
  }
  uint64_t silent_since = start;
  while (any_active()) {
    ssize_t bytes = recv(sock, frame, sizeof frame, plan.spin ? MSG_DONTWAIT : 0);
    const uint64_t at = now_ns();
    if (bytes < 0) {
      if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) fail("cannot receive: %s", strerror(errno));
      if (at - silent_since > POLL_MS * 1000000ull) {
        repeat_unanswered();
        silent_since = at;
      }
      continue;
    }
    silent_since = at;
    struct lane *lane = match_reply(bytes);
    if (lane) advance(lane, at, deadline);
  }
  return now_ns() - start;
}

static void report(const char *what, uint64_t wall_ns) {
  printf("{\"what\":\"%s\",\"wallNs\":%llu,\"requests\":%llu,\"requestsPerSecond\":%.0f,\"cycles\":%llu,\"lost\":%llu,"
         "\"stale\":%llu,\"foreign\":%llu,\"reopened\":%llu,\"types\":{",
         what, (unsigned long long)wall_ns, (unsigned long long)requests, (double)requests * 1e9 / (double)wall_ns,
         (unsigned long long)cycle_row.count, (unsigned long long)lost, (unsigned long long)stale,
         (unsigned long long)foreign, (unsigned long long)reopened);
  const char *comma = "";
  for (int i = 0; i < LABELS; i++) {
    if (!rows[i].count) continue;
    printf("%s\"%s\":", comma, label_names[i]);
    samples_print(&rows[i]);
    comma = ",";
  }
  printf("}");
  if (cycle_row.count) {
    printf(",\"cycle\":");
    samples_print(&cycle_row);
  }
  printf("}\n");
}

/* The value of `key=` in the line, or NULL; a value ends at a blank, that of "args" at the end of the line. */
static const char *value_of(const char *line, const char *key, char *into, size_t room) {
  const size_t key_bytes = strlen(key);
  for (const char *at = line; (at = strstr(at, key)); at++) {
    if ((at != line && at[-1] != ' ') || at[key_bytes] != '=') continue;
    at += key_bytes + 1;
    const size_t bytes = strcmp(key, "args") ? strcspn(at, " \n") : strcspn(at, "\n");
    if (bytes >= room) fail("%s is longer than %zu bytes", key, room - 1);
    memcpy(into, at, bytes);
    into[bytes] = 0;
    return into;
  }
  return NULL;
}

static uint64_t number_of(const char *line, const char *key, uint64_t otherwise) {
  char text[32];
  return value_of(line, key, text, sizeof text) ? strtoull(text, NULL, 10) : otherwise;
}

static struct log *log_of(const char *line, int known) {
  const uint64_t index = number_of(line, "log", 0);
  if (index >= LOGS_MAX || (known && !logs[index].known)) fail("log %llu is not open", (unsigned long long)index);
  return &logs[index];
}

static void play_once(const struct script *script, struct log *log) {
  plan = (struct run){.script = script, .pattern = "seq", .cycles = 1, .lanes = 1, .log = (uint64_t)(log - logs), .logs = 1};
  report(script->name, play());
}

static void command_prepare(const char *line) {
  struct log *log = log_of(line, 0);
  char args[ARGS_BYTES];
  if (!value_of(line, "uuid", log->uuid, sizeof log->uuid) || !value_of(line, "args", args, sizeof args)) fail("open needs uuid= and args=");
  log->regions = number_of(line, "regions", 0);
  log->size = number_of(line, "size", 2);
  if (log->regions == 0) fail("open needs regions=");
  /* Like a kernel pointer: beyond 2^53, so a daemon that keeps it in a double confuses logs. */
  log->luid = 0xffff888000000000ull + 1 + (uint64_t)(log - logs);
  log->cursor = 0;
  log->known = 1;
  snprintf(log->payload, sizeof log->payload, "%llu %s", (unsigned long long)(log->regions * log->size), args);
}

static void command_run(const char *line) {
  static char name[32], pattern[16];
  char wait[16];
  if (!value_of(line, "script", name, sizeof name)) fail("run needs script=");
  plan = (struct run){
    .pattern = value_of(line, "pattern", pattern, sizeof pattern) ? pattern : "random",
    .lanes = number_of(line, "lanes", 1), .log = number_of(line, "log", 0), .logs = number_of(line, "logs", 1),
    .ms = number_of(line, "ms", 0), .cycles = number_of(line, "cycles", 0), .strict = number_of(line, "strict", 0),
    .spin = value_of(line, "wait", wait, sizeof wait) && !strcmp(wait, "spin"),
  };
  for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
    if (!strcmp(scripts[i].name, name)) plan.script = &scripts[i];
  if (!plan.script) fail("no script %s", name);
  if (!plan.ms && !plan.cycles) fail("run needs ms= or cycles=");
  if (plan.lanes < 1 || plan.lanes > LANES_MAX || plan.logs < 1 || plan.log + plan.logs > LOGS_MAX) fail("lanes and logs are 1 to %d", LANES_MAX);
  for (uint64_t i = plan.log; i < plan.log + plan.logs; i++)
    if (!logs[i].known) fail("log %llu is not open", (unsigned long long)i);
  report(name, play());
}

static void enter_netns(const char *pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/ns/net", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) fail("cannot enter %s: %s", path, strerror(errno));
  close(fd);
}

int main(int argc, char **argv) {
  char line[LINE_BYTES];
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setvbuf(stdout, NULL, _IOLBF, 1 << 16);
  if (argc == 3 && !strcmp(argv[1], "--netns-of")) enter_netns(argv[2]);
  else if (argc != 1) fail("usage: driver [--netns-of PID]");
  const struct timeval poll = {.tv_usec = POLL_MS * 1000};
  sock = open_connector(0);
  if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &poll, sizeof poll) < 0) fail("cannot open a connector socket: %s", strerror(errno));
  while (fgets(line, sizeof line, stdin)) {
    if (!strncmp(line, "open ", 5)) {
      command_prepare(line);
      play_once(&script_open, log_of(line, 1));
    } else if (!strncmp(line, "prepare ", 8)) {
      command_prepare(line);
      printf("{\"what\":\"prepare\"}\n");
    } else if (!strncmp(line, "run ", 4)) {
      command_run(line);
    } else if (!strncmp(line, "close ", 6)) {
      play_once(&script_close, log_of(line, 1));
      log_of(line, 1)->known = 0;
    } else {
      fail("no such command: %s", line);
    }
  }
  return 0;
}
