/* Stands before the C library (LD_PRELOAD), and makes its calls fail for the files of a trace. Python code steers it
   with `break_call`, through ctypes. Everything else passes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char broken[32];   /* the call that fails; empty for none */
static int number;        /* its errno; 0 makes writes short, -1 makes them do nothing */
static int spared;        /* how many calls pass before */
static int times;         /* how many fail; negative for all */
static int met;           /* how many did */

int break_call(const char *name, int error, int skip, int count) {
  strncpy(broken, name, sizeof broken - 1);
  number = error, spared = skip, times = count;
  int before = met;
  met = 0;
  return before;
}

static int fails(const char *name) {
  if (strcmp(name, broken) != 0 || times == 0) return 0;
  if (spared > 0) { spared--; return 0; }
  if (times > 0) times--;
  met++;
  return 1;
}

static int ours(int descriptor) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return strstr(path, "/out/") != NULL || (size > 4 && strcmp(path + size - 4, "/out") == 0);
}

static int our_path(const char *path) { return path != NULL && strstr(path, "out/") != NULL; }

#define REAL(name, type) static __typeof__(type) *real; if (!real) real = (__typeof__(type) *)dlsym(RTLD_NEXT, #name)
#define FAIL(name) if (fails(name)) { errno = number; return -1; }

ssize_t write(int descriptor, const void *data, size_t size) {
  REAL(write, ssize_t (int, const void *, size_t));
  if (ours(descriptor) && fails("write")) {
    if (number < 0) return 0;
    if (number == 0) return real(descriptor, data, size < 7 ? size : 7);
    errno = number;
    return -1;
  }
  return real(descriptor, data, size);
}

int fsync(int descriptor) {
  REAL(fsync, int (int));
  if (ours(descriptor)) FAIL("fsync");
  return real(descriptor);
}

int close(int descriptor) {
  REAL(close, int (int));
  int mine = ours(descriptor);
  int result = real(descriptor);
  if (mine) FAIL("close");
  return result;
}

int rename(const char *from, const char *to) {
  REAL(rename, int (const char *, const char *));
  if (our_path(to)) FAIL("rename");
  return real(from, to);
}

int unlink(const char *path) {
  REAL(unlink, int (const char *));
  if (our_path(path)) FAIL("unlink");
  return real(path);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  REAL(linkat, int (int, const char *, int, const char *, int));
  if (our_path(to)) FAIL("linkat");
  return real(from_folder, from, to_folder, to, flags);
}

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
  int writes = (flags & O_ACCMODE) != O_RDONLY;
  int unnamed = (flags & O_TMPFILE) == O_TMPFILE;
  if (writes && (our_path(path) || (unnamed && strstr(path, "out") != NULL))) {
    FAIL("open");
    if (unnamed) FAIL("open unnamed");
  }
  return real(path, flags, mode);
}

#define OPEN(name)                                                                                    \
  int name(const char *path, int flags, ...) {                                                        \
    REAL(name, int (const char *, int, ...));                                                      \
    mode_t mode = 0;                                                                                  \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                              \
      va_list rest;                                                                                   \
      va_start(rest, flags);                                                                          \
      mode = va_arg(rest, mode_t);                                                                    \
      va_end(rest);                                                                                   \
    }                                                                                                 \
    return opened(real, path, flags, mode);                                                           \
  }

OPEN(open)
OPEN(open64)
