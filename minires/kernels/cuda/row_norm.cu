// Layer norm and RMS norm: one block a row of d numbers. RMS norm is layer norm with a mean of 0.

// y = w (x - mean) / sigma + b; also the row's mean, where there is a place for it, and 1 / sigma.
extern "C" __global__ void normalize_rows(
    const real* x, const real* w, const real* b, real* y, real* mean, real* inv, double eps, integer d) {
  const real* row = x + (integer)blockIdx.x * d;
  real center = 0, spread = 0;
  if (mean) {
    for (integer i = threadIdx.x; i < d; i += blockDim.x) center += row[i];
    center = block_sum(center) / d;
  }
  for (integer i = threadIdx.x; i < d; i += blockDim.x) spread += (row[i] - center) * (row[i] - center);
  real scale = 1 / sqrt(block_sum(spread) / d + (real)eps);
  for (integer i = threadIdx.x; i < d; i += blockDim.x)
    y[(integer)blockIdx.x * d + i] = (row[i] - center) * scale * (w ? w[i] : 1) + (b ? b[i] : 0);
  if (threadIdx.x == 0) {
    if (mean) mean[blockIdx.x] = center;
    inv[blockIdx.x] = scale;
  }
}

// gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / sigma, gxhat = w gy; without the middle term where mean is null.
extern "C" __global__ void row_gradient(
    const real* x, const real* gy, const real* w, const real* mean, const real* inv, real* gx, integer d) {
  integer start = (integer)blockIdx.x * d;
  real center = mean ? mean[blockIdx.x] : 0, scale = inv[blockIdx.x], plain = 0, agreement = 0;
  for (integer i = threadIdx.x; i < d; i += blockDim.x) {
    real g = gy[start + i] * (w ? w[i] : 1);
    plain += g;
    agreement += g * (x[start + i] - center) * scale;
  }
  plain = mean ? block_sum(plain) / d : 0;
  agreement = block_sum(agreement) / d;
  for (integer i = threadIdx.x; i < d; i += blockDim.x) {
    real g = gy[start + i] * (w ? w[i] : 1);
    gx[start + i] = (g - plain - (x[start + i] - center) * scale * agreement) * scale;
  }
}
