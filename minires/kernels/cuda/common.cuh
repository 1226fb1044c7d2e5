// What the kernels lean on. The text is compiled once as float and once as double: `real` is the one or the other.

typedef long long integer;

// For each element of channel c of an array (outer, channels, inner), this thread's share: work(its place in memory).
// Of the block's threads along y, `lanes` neighbors share out the inner axis, and the rest, with blockIdx.y, the outer.
template <class Work>
__device__ void each_of_channel(integer c, integer outer, integer channels, integer inner, integer lanes, Work work) {
  integer rows = blockDim.y / (int)lanes, row = threadIdx.y / (int)lanes, lane = threadIdx.y % (int)lanes;
  if (c < channels)
    for (integer n = blockIdx.y * rows + row; n < outer; n += gridDim.y * rows)
      for (integer l = lane; l < inner; l += lanes) work((n * channels + c) * inner + l);
}

// The sum over the 256 threads of a block that share threadIdx.x: right where threadIdx.y is 0. Such a thread reads no
// number but its own at the end, so the next call may overwrite the rest. blockDim.x is a power of two.
__device__ double over_column(double v) {
  __shared__ double held[256];
  int t = threadIdx.y * blockDim.x + threadIdx.x;
  held[t] = v;
  __syncthreads();
  for (int s = 128; s >= (int)blockDim.x; s /= 2) {
    if (t < s) held[t] += held[t + s];
    __syncthreads();
  }
  return held[t];
}

// The sum, or the largest, of one number from every thread of a block of whole warps along x. All threads get it.
__device__ real over_block(real v, bool largest) {
  for (int lane = 16; lane > 0; lane /= 2) {
    real other = __shfl_xor_sync(0xffffffffu, v, lane);
    v = largest ? (other > v ? other : v) : v + other;
  }
  if (blockDim.x == 32) return v;
  __shared__ real warps[32];
  int lane = threadIdx.x % 32, count = blockDim.x / 32;
  if (lane == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  v = warps[0];
  for (int i = 1; i < count; i++) v = largest ? (warps[i] > v ? warps[i] : v) : v + warps[i];
  __syncthreads();  // nobody writes to `warps` in the next call before all have read it
  return v;
}

__device__ real block_sum(real v) { return over_block(v, false); }
__device__ real block_max(real v) { return over_block(v, true); }
__device__ real infinity() { return (real)__longlong_as_double(0x7ff0000000000000LL); }
