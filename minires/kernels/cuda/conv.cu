// Patches of images as rows of a matrix, and back. Images are (n, h, w, groups, c); a row, one for each output pixel
// (n, oh, ow), is (groups, kh, kw, c): what lies under each tap, 0 at the padding. Threads along x take channels, which
// are neighbors in memory on both sides; threads along y take pixels. There are less than 2^31 of anything.

extern "C" __global__ void patches(
    const real* x, real* rows, integer n, integer oh, integer ow, integer h, integer w, integer groups, integer c, integer kh,
    integer kw, integer sh, integer sw, integer ph, integer pw, integer dh, integer dw) {
  int pixel = blockIdx.x * blockDim.y + threadIdx.y;
  if (pixel >= n * oh * ow) return;
  int j = pixel % (int)ow, i = pixel / (int)ow % (int)oh, image = pixel / (int)ow / (int)oh;
  real* row = rows + pixel * groups * kh * kw * c;
  for (int q = 0; q < groups; q++)
    for (int k = 0; k < kh; k++)
      for (int l = 0; l < kw; l++, row += c) {
        integer y = i * sh + k * dh - ph, z = j * sw + l * dw - pw;
        bool inside = y >= 0 && y < h && z >= 0 && z < w;
        const real* under = x + (((image * h + y) * w + z) * groups + q) * c;
        for (int channel = threadIdx.x; channel < c; channel += blockDim.x) row[channel] = inside ? under[channel] : 0;
      }
}

// The transpose of `patches`: each pixel of x gathers from the rows all entries that `patches` would read from it.
extern "C" __global__ void scatter(
    const real* rows, real* x, integer n, integer oh, integer ow, integer h, integer w, integer groups, integer c, integer kh,
    integer kw, integer sh, integer sw, integer ph, integer pw, integer dh, integer dw) {
  int pixel = blockIdx.x * blockDim.y + threadIdx.y;
  if (pixel >= n * h * w) return;
  int z = pixel % (int)w, y = pixel / (int)w % (int)h, image = pixel / (int)w / (int)h;
  for (int q = 0; q < groups; q++)
    for (int channel = threadIdx.x; channel < c; channel += blockDim.x) {
      real sum = 0;
      for (int k = 0; k < kh; k++) {
        int up = y + (int)ph - k * (int)dh, i = up / (int)sh;
        if (up < 0 || up != i * (int)sh || i >= oh) continue;
        for (int l = 0; l < kw; l++) {
          int left = z + (int)pw - l * (int)dw, j = left / (int)sw;
          if (left < 0 || left != j * (int)sw || j >= ow) continue;
          sum += rows[((((image * oh + i) * ow + j) * groups + q) * kh * kw + k * kw + l) * c + channel];
        }
      }
      x[(pixel * groups + q) * c + channel] = sum;
    }
}
