// Softmax and cross-entropy in one, from logits x (n, d) and classes t (n): one block a sample.

// The loss of each sample, 0 where t is `ignored`. For backward, top = max(x) and rest = log(sum(exp(x - top))):
// stats is (n, 2). Their sum would lose what is small beside a large logit. A class out of range gives NaN.
extern "C" __global__ void cross_entropy(
    const real* x, const integer* t, real* losses, real* stats, double smoothing, integer ignored, integer d) {
  const real* row = x + (integer)blockIdx.x * d;
  real top = -infinity(), sum = 0, all = 0;
  for (integer i = threadIdx.x; i < d; i += blockDim.x) top = row[i] > top ? row[i] : top;
  top = block_max(top);
  for (integer i = threadIdx.x; i < d; i += blockDim.x) {
    sum += exp(row[i] - top);
    all += row[i] - top;
  }
  real rest = log(block_sum(sum)), a = (real)smoothing;
  all = block_sum(all);
  if (threadIdx.x != 0) return;
  integer target = t[blockIdx.x];
  real loss = 0;
  if (target != ignored) {
    loss = target < 0 || target >= d ? infinity() - infinity() : (1 - a) * (rest - (row[target] - top));
    if (a != 0) loss += a * (rest - all / d);
  }
  losses[blockIdx.x] = loss;
  stats[2 * (integer)blockIdx.x] = top;
  stats[2 * (integer)blockIdx.x + 1] = rest;
}

// One block: the sum of all losses, divided by how many targets are not `ignored` where a mean is wanted; that number.
extern "C" __global__ void reduce(
    const real* losses, const integer* t, real* y, real* count, integer mean, integer ignored, integer n) {
  double sum = 0, kept = 0;
  for (integer i = threadIdx.y; i < n; i += blockDim.y) {
    sum += losses[i];
    kept += t[i] != ignored;
  }
  sum = over_column(sum);
  kept = over_column(kept);
  if (threadIdx.y != 0) return;
  *y = mean ? sum / kept : sum;
  *count = mean ? kept : 1;
}

// gx = (p - q) gl, q = (1 - a) [c = t] + a / d. gl is gy's own number for each sample, or its only one over the count.
extern "C" __global__ void cross_entropy_gradient(
    const real* x, const integer* t, const real* stats, const real* gy, const real* count, real* gx, double smoothing,
    integer ignored, integer d) {
  integer start = (integer)blockIdx.x * d, target = t[blockIdx.x];
  real gl = target == ignored ? 0 : count ? *gy / *count : gy[blockIdx.x];
  real top = stats[2 * (integer)blockIdx.x], rest = stats[2 * (integer)blockIdx.x + 1], a = (real)smoothing;
  for (integer i = threadIdx.x; i < d; i += blockDim.x)
    gx[start + i] = (exp(x[start + i] - top - rest) - (i == target ? 1 - a : 0) - a / d) * gl;
}
