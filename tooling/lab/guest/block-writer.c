/*
 * Writes blocks of 4 KiB to a device with O_DIRECT, one after the other, each with a text that says who wrote it, the how manieth write it was, and where. Prints
 * `<number> <milliseconds>` when a write has returned. Ends after `writes` of them (0: never), or at SIGTERM when the one under way has returned, with
 * "end <writes> slowest <milliseconds>". A write that fails ends it with status 1.
 *
 * usage: block-writer DEVICE NODE FIRST-NUMBER FIRST-BLOCK STEP COUNT SPAN WRITES
 * Write number n (from FIRST-NUMBER) goes to block FIRST-BLOCK + ((n - 1) % COUNT) * STEP % SPAN.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 4096
/* Divides a block: a torn write shows in any sector. */
#define LINE_BYTES 64

static volatile sig_atomic_t ended;
static char block_bytes[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));

static void on_term(int signal_number) {
  (void)signal_number;
  ended = 1;
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

int main(int argc, char **argv) {
  if (argc != 9) return 64;
  const char *device = argv[1];
  long node = atol(argv[2]), first = atol(argv[3]), first_block = atol(argv[4]), step = atol(argv[5]);
  long count = atol(argv[6]), span = atol(argv[7]), writes = atol(argv[8]), slowest_ms = 0, done = 0;
  signal(SIGTERM, on_term);
  int fd = open(device, O_WRONLY | O_DIRECT);
  if (fd < 0) {
    printf("cannot open %s: %s\n", device, strerror(errno));
    return 1;
  }
  for (long number = first; !ended && (writes == 0 || done < writes); number++, done++) {
    long block = first_block + ((number - 1) % count) * step % span;
    char line[LINE_BYTES + 1];
    snprintf(line, sizeof line, "node %ld write %ld block %ld", node, number, block);
    memset(block_bytes, '.', BLOCK_BYTES);
    for (int at = 0; at < BLOCK_BYTES; at += LINE_BYTES) memcpy(block_bytes + at, line, strlen(line));
    long began = now_ms();
    if (pwrite(fd, block_bytes, BLOCK_BYTES, block * (off_t)BLOCK_BYTES) != BLOCK_BYTES) {
      printf("cannot write block %ld: %s\n", block, strerror(errno));
      return 1;
    }
    long took_ms = now_ms() - began;
    if (took_ms > slowest_ms) slowest_ms = took_ms;
    printf("%ld %ld\n", number, took_ms);
    fflush(stdout);
  }
  printf("end %ld slowest %ld\n", done, slowest_ms);
  return 0;
}
