// Sums down the columns of a matrix (rows, columns), in two steps: by blocks of rows, then over the blocks.

// sum(g) of each column and, where x is given, sum(g xhat), xhat = (x - mean) inv with one mean and inv a row:
// partial is (parts, 1 or 2, columns).
extern "C" __global__ void column_sums(
    const real* g, const real* x, const real* mean, const real* inv, real* partial, integer rows, integer columns) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  real plain = 0, agreement = 0;
  if (c < columns)
    for (integer r = (integer)blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += (integer)gridDim.y * blockDim.y) {
      real v = g[r * columns + c];
      plain += v;
      if (x) agreement += v * (x[r * columns + c] - (mean ? mean[r] : 0)) * inv[r];
    }
  double first = over_column(plain), second = x ? over_column(agreement) : 0;
  if (c < columns && threadIdx.y == 0) {
    real* mine = partial + (integer)blockIdx.y * (x ? 2 : 1) * columns + c;
    mine[0] = first;
    if (x) mine[columns] = second;
  }
}

// The sum of the rows of partial (parts, columns), in one order whatever the device.
extern "C" __global__ void add_rows(const real* partial, real* y, integer parts, integer columns) {
  integer c = (integer)blockIdx.x * blockDim.x + threadIdx.x;
  double sum = 0;
  if (c < columns)
    for (integer p = threadIdx.y; p < parts; p += blockDim.y) sum += partial[p * columns + c];
  sum = over_column(sum);
  if (c < columns && threadIdx.y == 0) y[c] = sum;
}
