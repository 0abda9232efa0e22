/* A slow disk and a clock that jumps, for one process: loaded in front of the C library (LD_PRELOAD).

   The file that FAULTS names holds two doubles: seconds to add to the time of day, and seconds that every
   write to a disk's end (fsync, fdatasync) and every pwrite takes. Both may change while it runs. The
   monotonic clock stays true, as it does when a real clock is set. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *faults;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, 2 * sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) faults = at;
    close(file);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void wait_for_the_disk(void) {
    double seconds = faults ? faults[1] : 0;
    if (seconds <= 0) return;
    struct timespec left = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};
    nanosleep(&left, NULL);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now);
    if (!failed && faults && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += (time_t)faults[0];
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = REAL(gettimeofday)(now, zone);
    if (!failed && faults) now->tv_sec += (time_t)faults[0];
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int fsync(int file) {
    wait_for_the_disk();
    return REAL(fsync)(file);
}

int fdatasync(int file) {
    wait_for_the_disk();
    return REAL(fdatasync)(file);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    wait_for_the_disk();
    return REAL(pwrite64)(file, data, size, at);
}
