// Pooling of images (outer, h, w, inner): in C order, outer is the batch and the channels, and inner is 1; channels
// last, outer is the batch and inner the channels. One thread an output going forward, one thread an input going back:
// it gathers from every window that sees it, so that nothing is added by two threads. Less than 2^31 numbers.

// The largest of each window, and which of its taps that is: the first one at a tie, none (-1) for a NaN, which nothing
// is larger than or equal to.
extern "C" __global__ void max_pool(
    const real* x, real* y, int* winner, integer count, integer oh, integer ow, integer h, integer w, integer inner, integer kh,
    integer kw, integer sh, integer sw, integer ph, integer pw, integer dh, integer dw) {
  int place = blockIdx.x * blockDim.x + threadIdx.x;
  if (place >= count) return;
  int c = place % (int)inner, pixel = place / (int)inner;
  int j = pixel % (int)ow, i = pixel / (int)ow % (int)oh, image = pixel / (int)ow / (int)oh;
  real best = -infinity();
  int which = -1;
  for (int k = 0; k < kh; k++)
    for (int l = 0; l < kw; l++) {
      integer u = i * sh + k * dh - ph, v = j * sw + l * dw - pw;
      if (u < 0 || u >= h || v < 0 || v >= w) continue;
      real seen = x[((image * h + u) * w + v) * inner + c];
      if (seen > best || seen != seen || (which < 0 && seen == best)) {
        best = seen;
        which = seen == seen ? k * (int)kw + l : -1;
      }
    }
  y[place] = best;
  winner[place] = which;
}

extern "C" __global__ void max_pool_gradient(
    const real* gy, const int* winner, real* gx, integer count, integer oh, integer ow, integer h, integer w, integer inner,
    integer kh, integer kw, integer sh, integer sw, integer ph, integer pw, integer dh, integer dw) {
  int place = blockIdx.x * blockDim.x + threadIdx.x;
  if (place >= count) return;
  int c = place % (int)inner, pixel = place / (int)inner;
  int v = pixel % (int)w, u = pixel / (int)w % (int)h, image = pixel / (int)w / (int)h;
  real sum = 0;
  for (int k = 0; k < kh; k++) {
    int up = u + (int)ph - k * (int)dh, i = up / (int)sh;
    if (up < 0 || up != i * (int)sh || i >= oh) continue;
    for (int l = 0; l < kw; l++) {
      int left = v + (int)pw - l * (int)dw, j = left / (int)sw;
      if (left < 0 || left != j * (int)sw || j >= ow) continue;
      integer window = ((image * oh + i) * ow + j) * inner + c;
      if (winner[window] == k * (int)kw + l) sum += gy[window];
    }
  }
  gx[place] = sum;
}

// The sum of each window times `share`.
extern "C" __global__ void average_pool(
    const real* x, real* y, double share, integer count, integer oh, integer ow, integer h, integer w, integer inner, integer kh,
    integer kw, integer sh, integer sw, integer ph, integer pw) {
  int place = blockIdx.x * blockDim.x + threadIdx.x;
  if (place >= count) return;
  int c = place % (int)inner, pixel = place / (int)inner;
  int j = pixel % (int)ow, i = pixel / (int)ow % (int)oh, image = pixel / (int)ow / (int)oh;
  real sum = 0;
  for (int k = 0; k < kh; k++)
    for (int l = 0; l < kw; l++) {
      integer u = i * sh + k - ph, v = j * sw + l - pw;
      if (u >= 0 && u < h && v >= 0 && v < w) sum += x[((image * h + u) * w + v) * inner + c];
    }
  y[place] = sum * (real)share;
}

extern "C" __global__ void average_pool_gradient(
    const real* gy, real* gx, double share, integer count, integer oh, integer ow, integer h, integer w, integer inner, integer kh,
    integer kw, integer sh, integer sw, integer ph, integer pw) {
  int place = blockIdx.x * blockDim.x + threadIdx.x;
  if (place >= count) return;
  int c = place % (int)inner, pixel = place / (int)inner;
  int v = pixel % (int)w, u = pixel / (int)w % (int)h, image = pixel / (int)w / (int)h;
  real sum = 0;
  for (int k = 0; k < kh; k++) {
    int up = u + (int)ph - k, i = up / (int)sh;
    if (up < 0 || up != i * (int)sh || i >= oh) continue;
    for (int l = 0; l < kw; l++) {
      int left = v + (int)pw - l, j = left / (int)sw;
      if (left < 0 || left != j * (int)sw || j >= ow) continue;
      sum += gy[((image * oh + i) * ow + j) * inner + c];
    }
  }
  gx[place] = sum * (real)share;
}
