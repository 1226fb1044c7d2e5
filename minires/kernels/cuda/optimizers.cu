// One step of an optimizer for many parameters in one launch. Block (., i) works on parameter i.
//
// The addresses travel with the launch, by value, so a captured graph holds them; all that changes from step to step,
// the learning rate and the counts, is read from the device's memory. Each kernel computes what its formula computes.

// at[0] is p, at[1] its gradient, and the rest the optimizer's state. CUDA takes 4 KiB of arguments in all.
struct Arrays3 { integer at[3][120]; int n[120]; };
struct Arrays4 { integer at[4][96]; int n[96]; };
struct Arrays5 { integer at[5][80]; int n[80]; };

template <class Arrays>
__device__ real* array(const Arrays& arrays, int which) { return (real*)arrays.at[which][blockIdx.y]; }

// work(j, p[j], g[j]) for this thread's share of a parameter's numbers, with the decay inside g.
template <class Arrays, class Work>
__device__ void each_number(const Arrays& arrays, double weight_decay, Work work) {
  real* p = array(arrays, 0);
  const real* gradient = array(arrays, 1);
  real decay = (real)weight_decay;
  integer n = arrays.n[blockIdx.y];
  for (integer j = (integer)blockIdx.x * blockDim.x + threadIdx.x; j < n; j += (integer)gridDim.x * blockDim.x) {
    real g = gradient[j];
    if (weight_decay != 0) g = g + decay * p[j];
    work(j, p[j], g);
  }
}

extern "C" __global__ void sgd(
    Arrays3 arrays, const double* lr, double momentum, double dampening, double weight_decay, integer nesterov) {
  real rate = (real)*lr, mu = (real)momentum, share = (real)(1 - dampening);
  real* b = array(arrays, 2);
  each_number(arrays, weight_decay, [&](integer j, real& p, real g) {
    if (momentum != 0) {
      real moved = b[j] * mu + (dampening != 0 ? share * g : g);
      b[j] = moved;
      g = nesterov ? g + mu * moved : moved;
    }
    p -= rate * g;
  });
}

// The count t is this step's already. `decoupled` takes the decay off p instead of adding it to the gradient.
extern "C" __global__ void adam(
    Arrays4 arrays, const double* lr, const integer* steps, double beta1, double beta2, double eps, double weight_decay,
    integer decoupled) {
  double t = (double)steps[blockIdx.y];
  real rate = (real)(*lr / (1 - pow(beta1, t))), root = (real)pow(1 - pow(beta2, t), -0.5);
  real b1 = (real)beta1, b2 = (real)beta2, c1 = (real)(1 - beta1), c2 = (real)(1 - beta2), small = (real)eps;
  real kept = decoupled ? (real)(1 - *lr * weight_decay) : (real)1;
  real *m = array(arrays, 2), *v = array(arrays, 3);
  each_number(arrays, decoupled ? 0 : weight_decay, [&](integer j, real& p, real g) {
    real mean = b1 * m[j] + c1 * g, square = b2 * v[j] + c2 * g * g;
    m[j] = mean;
    v[j] = square;
    p = kept * p - mean / (sqrt(square) * root + small) * rate;
  });
}

extern "C" __global__ void rmsprop(
    Arrays5 arrays, const double* lr, double alpha, double eps, double weight_decay, double momentum, integer centered) {
  real rate = (real)*lr, keep = (real)alpha, take = (real)(1 - alpha), mu = (real)momentum, small = (real)eps;
  real *v = array(arrays, 2), *a = array(arrays, 3), *b = array(arrays, 4);
  each_number(arrays, weight_decay, [&](integer j, real& p, real g) {
    real square = keep * v[j] + take * (g * g), spread = square;
    v[j] = square;
    if (centered) {
      real mean = keep * a[j] + take * g;
      a[j] = mean;
      spread = square - mean * mean;
    }
    real u = g / (sqrt(spread) + small);
    if (momentum != 0) u = b[j] = mu * b[j] + u;
    p -= rate * u;
  });
}
