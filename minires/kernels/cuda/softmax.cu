// Softmax, its logarithm, and attention's weights: one block a row of d numbers.

__device__ real largest_of(const real* row, integer d) {
  real top = -infinity();
  for (integer i = threadIdx.x; i < d; i += blockDim.x) top = row[i] > top ? row[i] : top;
  return block_max(top);
}

__device__ real sum_of_exp(const real* row, real top, integer d) {
  real sum = 0;
  for (integer i = threadIdx.x; i < d; i += blockDim.x) sum += exp(row[i] - top);
  return block_sum(sum);
}

extern "C" __global__ void softmax(const real* x, real* y, integer d) {
  const real* row = x + (integer)blockIdx.x * d;
  real top = largest_of(row, d), sum = sum_of_exp(row, top, d);
  for (integer i = threadIdx.x; i < d; i += blockDim.x) y[(integer)blockIdx.x * d + i] = exp(row[i] - top) / sum;
}

extern "C" __global__ void log_softmax(const real* x, real* y, integer d) {
  const real* row = x + (integer)blockIdx.x * d;
  real top = largest_of(row, d), rest = log(sum_of_exp(row, top, d));
  for (integer i = threadIdx.x; i < d; i += blockDim.x) y[(integer)blockIdx.x * d + i] = row[i] - top - rest;
}

// gx = y (g - sum(g y)), with g = drop gy where there is a drop. gx may be gy.
extern "C" __global__ void softmax_gradient(const real* y, const real* gy, const real* drop, real* gx, integer d) {
  integer start = (integer)blockIdx.x * d;
  real sum = 0;
  for (integer i = start + threadIdx.x; i < start + d; i += blockDim.x) sum += gy[i] * y[i] * (drop ? drop[i] : 1);
  sum = block_sum(sum);
  for (integer i = start + threadIdx.x; i < start + d; i += blockDim.x)
    gx[i] = y[i] * (gy[i] * (drop ? drop[i] : 1) - sum);
}

// gx = gy - exp(y) sum(gy)
extern "C" __global__ void log_softmax_gradient(const real* y, const real* gy, real* gx, integer d) {
  integer start = (integer)blockIdx.x * d;
  real sum = 0;
  for (integer i = start + threadIdx.x; i < start + d; i += blockDim.x) sum += gy[i];
  sum = block_sum(sum);
  for (integer i = start + threadIdx.x; i < start + d; i += blockDim.x) gx[i] = gy[i] - exp(y[i]) * sum;
}

// In place, scores s (outer, heads, t, d) become weights p: mask, then softmax of each row; a row that may look nowhere
// becomes 0. The mask, of bools (may look) or numbers (added), is reached by its strides, 0 where it is broadcast.
extern "C" __global__ void attention_weights(
    real* s, const bool* may_look, const real* added, integer heads, integer t, integer d, integer is_causal,
    integer outer_stride, integer head_stride, integer t_stride, integer d_stride) {
  integer query = blockIdx.x % t, head = blockIdx.x / t % heads, outer = blockIdx.x / t / heads;
  integer mask = outer * outer_stride + head * head_stride + query * t_stride;
  real* row = s + (integer)blockIdx.x * d;
  real top = -infinity(), sum = 0;
  for (integer i = threadIdx.x; i < d; i += blockDim.x) {
    bool hidden = (is_causal && i > query) || (may_look && !may_look[mask + i * d_stride]);
    row[i] = hidden ? -infinity() : row[i] + (added ? added[mask + i * d_stride] : 0);
    top = row[i] > top ? row[i] : top;
  }
  top = block_max(top);
  if (top == -infinity()) top = 0;
  for (integer i = threadIdx.x; i < d; i += blockDim.x) {
    row[i] = exp(row[i] - top);
    sum += row[i];
  }
  sum = block_sum(sum);
  for (integer i = threadIdx.x; i < d; i += blockDim.x) row[i] /= sum == 0 ? 1 : sum;
}
