// Batch norm. x is (outer, channels, inner): in C order the batch, the channels and the positions; channels last,
// all pixels of the batch, the channels, and 1. A block takes blockDim.x channels and a share of what lies in them.

// Chan, Golub and LeVeque 1979: the mean and the sum of squared deviations of two sets together.
__device__ void merge(double& n, double& mean, double& m2, double n2, double mean2, double m22) {
  double both = n + n2, away = mean2 - mean;
  if (n2 == 0) return;
  mean += away * (n2 / both);
  m2 += m22 + away * away * (n * n2 / both);
  n = both;
}

// `merge` over the 256 threads of a block that share threadIdx.x: right where threadIdx.y is 0.
__device__ void merge_column(double& n, double& mean, double& m2) {
  __shared__ double ns[256], means[256], m2s[256];
  int t = threadIdx.y * blockDim.x + threadIdx.x;
  ns[t] = n;
  means[t] = mean;
  m2s[t] = m2;
  __syncthreads();
  for (int s = 128; s >= (int)blockDim.x; s /= 2) {
    if (t < s) merge(ns[t], means[t], m2s[t], ns[t + s], means[t + s], m2s[t + s]);
    __syncthreads();
  }
  n = ns[t];
  mean = means[t];
  m2 = m2s[t];
}

// Count, mean and squared deviations of each block's share: partial is (parts, 3, channels). Means are told from the
// channel's first number, so that a large offset does not cost the digits of what varies around it.
extern "C" __global__ void moments(
    const real* x, real* partial, integer outer, integer channels, integer inner, integer lanes) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  real base = c < channels ? x[c * inner] : 0, n = 0, mean = 0, m2 = 0;
  each_of_channel(c, outer, channels, inner, lanes, [&](integer i) {  // Welford 1962
    real v = x[i] - base, away = v - mean;
    n += 1;
    mean += away / n;
    m2 += away * (v - mean);
  });
  double all = n, center = mean, spread = m2;
  merge_column(all, center, spread);
  if (c < channels && threadIdx.y == 0) {
    real* mine = partial + (integer)blockIdx.y * 3 * channels + c;
    mine[0] = all;
    mine[channels] = center;
    mine[2 * channels] = spread;
  }
}

// The batch's mean and biased variance from the shares.
extern "C" __global__ void finish_moments(
    const real* x, const real* partial, real* mean, real* var, integer parts, integer channels, integer inner) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  double n = 0, center = 0, spread = 0;
  if (c < channels)
    for (integer p = threadIdx.y; p < parts; p += blockDim.y) {
      const real* share = partial + p * 3 * channels + c;
      merge(n, center, spread, share[0], share[channels], share[2 * channels]);
    }
  merge_column(n, center, spread);
  if (c < channels && threadIdx.y == 0) {
    mean[c] = x[c * inner] + center;
    var[c] = spread / n;
  }
}

// y = w (x - mean) / sigma + b; without w, mean or b (null): 1, 0, 0.
extern "C" __global__ void normalize(
    const real* x, const real* w, const real* b, const real* mean, const real* var, real* y, double eps,
    integer outer, integer channels, integer inner, integer lanes) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  real scale = (w ? w[c] : 1) / sqrt(var[c] + (real)eps), center = mean ? mean[c] : 0, shift = b ? b[c] : 0;
  each_of_channel(c, outer, channels, inner, lanes, [&](integer i) { y[i] = (x[i] - center) * scale + shift; });
}

// sum(gy) and sum(gy xhat) of each block's share: partial is (parts, 2, channels).
extern "C" __global__ void gradient_sums(
    const real* x, const real* gy, const real* mean, const real* var, real* partial, double eps,
    integer outer, integer channels, integer inner, integer lanes) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  real center = c < channels ? mean[c] : 0, inv = c < channels ? 1 / sqrt(var[c] + (real)eps) : 0;
  real plain = 0, agreement = 0;
  each_of_channel(c, outer, channels, inner, lanes, [&](integer i) {
    plain += gy[i];
    agreement += gy[i] * (x[i] - center) * inv;
  });
  double gb = over_column(plain), gw = over_column(agreement);
  if (c < channels && threadIdx.y == 0) {
    partial[(integer)blockIdx.y * 2 * channels + c] = gb;
    partial[((integer)blockIdx.y * 2 + 1) * channels + c] = gw;
  }
}

// gx = (w / sigma) (gy - gb / m - xhat gw / m), with sums (2, channels): gb and gw.
extern "C" __global__ void input_gradient(
    const real* x, const real* gy, const real* w, const real* mean, const real* var, const real* sums, real* gx,
    double eps, integer outer, integer channels, integer inner, integer lanes) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  real m = (real)(outer * inner), inv = 1 / sqrt(var[c] + (real)eps), scale = (w ? w[c] : 1) * inv;
  real center = mean[c], offset = sums[c] / m, slope = sums[channels + c] / m * inv;
  each_of_channel(c, outer, channels, inner, lanes,
                  [&](integer i) { gx[i] = scale * (gy[i] - offset - (x[i] - center) * slope); });
}
