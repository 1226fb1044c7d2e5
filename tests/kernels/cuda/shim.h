// CUDA on one thread of a CPU, so that g++ can compile a kernel's own text and a test can run it without a GPU.
//
// Blocks run one after another. The threads of a block are fibers: one runs until it waits, at __syncthreads or in a
// shuffle, and then the next of its warp. A warp runs as far as it can, to the next barrier, before another one does; the
// order of warps, and of threads in a warp, is drawn anew each time. A kernel that forgets a barrier so reads numbers that
// are not there yet, or not any more. Shared memory is filled with NaN before each block, as nothing may be expected of
// it, and a barrier that some threads never reach is an error, as are threads that shuffle without the rest of their warp.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__ static
#define __shared__ static __attribute__((section("shared_memory")))
extern char __start_shared_memory[] __attribute__((weak)), __stop_shared_memory[] __attribute__((weak));  // by the linker

using std::erf;
using std::exp;
using std::log;
using std::sqrt;
using std::tanh;
static double __longlong_as_double(long long bits) {
  double v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

// --- threads ----------------------------------------------------------------------------------------------------

enum State { READY, AT_BARRIER, IN_SHUFFLE, DONE };

struct Fiber {
  ucontext_t context;
  State state;
  char stack[1 << 15];
};

static Fiber fibers[1024];
static ucontext_t scheduler;
static unsigned self, shuffle;  // which fiber runs; the state of a small random generator
static void (*kernel)(void**);  // calls the kernel with its arguments, given by their addresses
static void** arguments;

static unsigned size_of_block() { return blockDim.x * blockDim.y * blockDim.z; }

static void wait(State why) {
  fibers[self].state = why;
  swapcontext(&fibers[self].context, &scheduler);
}

static void __syncthreads() { wait(AT_BARRIER); }

template <class V>
static V __shfl_xor_sync(unsigned, V v, int lanes) {
  static V shown[1024];
  shown[self] = v;
  wait(IN_SHUFFLE);
  v = shown[self ^ lanes];
  wait(IN_SHUFFLE);
  return v;
}

static void live() {
  kernel(arguments);
  fibers[self].state = DONE;
}

static void start(unsigned t) {
  Fiber& fiber = fibers[t];
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = sizeof fiber.stack;
  fiber.context.uc_link = &scheduler;
  makecontext(&fiber.context, live, 0);
  fiber.state = READY;
}

static void resume(unsigned t) {
  self = t;
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
  swapcontext(&scheduler, &fibers[t].context);
}

// 0 ... n - 1 in an order drawn by chance.
static void draw(unsigned* order, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    shuffle = shuffle * 1664525u + 1013904223u;
    unsigned j = (shuffle >> 8) % (i + 1);
    order[i] = order[j];
    order[j] = i;
  }
}

// Runs the threads from `first` on until each of them waits at a barrier or is done.
static void run_warp(unsigned first, unsigned lanes) {
  unsigned order[32], shuffling;
  do {
    shuffling = 0;
    draw(order, lanes);
    for (unsigned i = 0; i < lanes; i++)
      if (fibers[first + order[i]].state == READY) resume(first + order[i]);
    for (unsigned t = first; t < first + lanes; t++) shuffling += fibers[t].state == IN_SHUFFLE;
    if (shuffling == 32)
      for (unsigned t = first; t < first + 32; t++) fibers[t].state = READY;
  } while (shuffling == 32);
}

// Null, or what is wrong.
static const char* run_block() {
  unsigned threads = size_of_block(), warps = (threads + 31) / 32, order[32], done = 0, waiting;
  std::memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
  for (unsigned t = 0; t < threads; t++) start(t);
  while (done < threads) {
    draw(order, warps);
    for (unsigned i = 0; i < warps; i++) run_warp(32 * order[i], std::min(32u, threads - 32 * order[i]));
    done = waiting = 0;
    for (unsigned t = 0; t < threads; t++) {
      done += fibers[t].state == DONE;
      waiting += fibers[t].state == AT_BARRIER;
      if (fibers[t].state == AT_BARRIER) fibers[t].state = READY;
    }
    if (done < threads && waiting < threads) return "some threads wait where the others never come";
  }
  return nullptr;
}

static const char* run_grid(
    const unsigned* grid, const unsigned* block, unsigned seed, void (*call)(void**), void** with) {
  if (__stop_shared_memory - __start_shared_memory > 48 << 10) return "more than 48 KiB of shared memory";
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  shuffle = seed;
  kernel = call;
  arguments = with;
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
        if (const char* problem = run_block()) return problem;
  return nullptr;
}
