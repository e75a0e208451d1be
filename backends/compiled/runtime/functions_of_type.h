// The functions of `functions.h` for one TYPE. BITS is the unsigned integer of the same size.

INLINE BITS FN(bits)(TYPE x) {
    const union { TYPE value; BITS bits; } both = {x};
    return both.bits;
}

INLINE TYPE FN(from_bits)(BITS bits) {
    const union { BITS bits; TYPE value; } both = {bits};
    return both.value;
}

// 2^n, for the exponent n of a normal number.
INLINE TYPE FN(power_of_two)(BITS n) { return FN(from_bits)((n + BIAS) << DIGITS); }

// a·b + c, in one instruction if there is one. Compilers are told not to choose this by themselves, since they may choose
// differently for the vectors and for the last elements of a loop.
INLINE TYPE FN(fma)(TYPE a, TYPE b, TYPE c) {
#if defined __FMA__ || defined __FP_FAST_FMA || defined __ARM_FEATURE_FMA
    return LIBM(__builtin_fma)(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE TYPE FN(abs)(TYPE x) { return LIBM(__builtin_fabs)(x); }
INLINE TYPE FN(sqrt)(TYPE x) { return LIBM(__builtin_sqrt)(x); }
INLINE TYPE FN(floor)(TYPE x) { return LIBM(__builtin_floor)(x); }
INLINE TYPE FN(ceil)(TYPE x) { return LIBM(__builtin_ceil)(x); }
INLINE TYPE FN(trunc)(TYPE x) { return LIBM(__builtin_trunc)(x); }
INLINE TYPE FN(round)(TYPE x) { return LIBM(__builtin_rint)(x); }
INLINE TYPE FN(copysign)(TYPE x, TYPE sign) { return LIBM(__builtin_copysign)(x, sign); }
INLINE TYPE FN(sign)(TYPE x) { return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x; }

// NaN if one of them is.
INLINE TYPE FN(maximum)(TYPE x, TYPE y) { return x > y || x != x ? x : y; }
INLINE TYPE FN(minimum)(TYPE x, TYPE y) { return x < y || x != x ? x : y; }

// -- powers of e ------------------------------------------------------------------------------------------------------

// e^x = 2^n·(1 + rest) for the integer n nearest to x / ln 2, in two's complement. The rest is e^r - 1 of a small
// remainder r (Cody and Waite, "Software manual for the elementary functions", 1980).
typedef struct {
    BITS n;
    TYPE rest;
} FN(power);

INLINE FN(power) FN(split_power)(TYPE x) {
    const TYPE shifter = (TYPE)1.5 * ((BITS)1 << DIGITS);  // puts the nearest integer into the lowest bits of the sum
    const TYPE sum = FN(fma)(x, (TYPE)1.44269504088896340736, shifter), n = sum - shifter;
    const TYPE r = FN(fma)(-n, LN2_LOW, FN(fma)(-n, LN2_HIGH, x));
    // 1/2! + r/3! + r²/4! + ...
#if DIGITS == 23
    TYPE series = 1.0 / 5040;
#else
    TYPE series = 1.0 / 6227020800;
    series = FN(fma)(series, r, 1.0 / 479001600);
    series = FN(fma)(series, r, 1.0 / 39916800);
    series = FN(fma)(series, r, 1.0 / 3628800);
    series = FN(fma)(series, r, 1.0 / 362880);
    series = FN(fma)(series, r, 1.0 / 40320);
    series = FN(fma)(series, r, 1.0 / 5040);
#endif
    series = FN(fma)(series, r, (TYPE)(1.0 / 720));
    series = FN(fma)(series, r, (TYPE)(1.0 / 120));
    series = FN(fma)(series, r, (TYPE)(1.0 / 24));
    series = FN(fma)(series, r, (TYPE)(1.0 / 6));
    series = FN(fma)(series, r, (TYPE)0.5);
    return (FN(power)){FN(bits)(sum) - FN(bits)(shifter), FN(fma)(r * r, series, r)};
}

INLINE TYPE FN(exp)(TYPE x) {
    x = x < LOWEST ? LOWEST : x > HIGHEST ? HIGHEST : x;
    const FN(power) power = FN(split_power)(x);
    // Two factors, as 2^n may overflow, or be below the normal numbers.
    const BITS half = ((power.n + 2 * BIAS) >> 1) - BIAS;
    return (1 + power.rest) * FN(power_of_two)(half) * FN(power_of_two)(power.n - half);
}

// e^x - 1 for x <= 0, without the sign of 0.
INLINE TYPE FN(exp_less_one)(TYPE x) {
    const FN(power) power = FN(split_power)(x < TINY ? TINY : x);
    const TYPE scale = FN(power_of_two)(power.n);
    return FN(fma)(scale, power.rest, scale - 1);
}

INLINE TYPE FN(expm1)(TYPE x) {
    const TYPE y = x < TINY ? TINY : x > HIGHEST ? HIGHEST : x;
    const FN(power) power = FN(split_power)(y);
    const TYPE half = FN(power_of_two)(power.n - 1);  // 2^n may overflow
    const TYPE result = FN(fma)(half, power.rest, half - (TYPE)0.5) * 2;
    return FN(abs)(x) < (TYPE)1 / ((BITS)1 << DIGITS) ? x : result;
}

INLINE TYPE FN(tanh)(TYPE x) {
    const TYPE less = FN(exp_less_one)(-2 * FN(abs)(x));
    return FN(copysign)(less / (2 + less), x);
}

// e^x for x <= 0, in fewer instructions than `exp`; 0 if the result is below the normal numbers.
INLINE TYPE FN(exp_nonpositive)(TYPE x) {
    const TYPE limit = (TYPE)(0.6931471805599453 * (BIAS - 1));
    const FN(power) power = FN(split_power)(x < -limit ? -limit : x);
    const TYPE scale = FN(power_of_two)(power.n);
    return x < -limit ? 0 : FN(fma)(scale, power.rest, scale);
}

// 0 if the result is below the normal numbers.
INLINE TYPE FN(sigmoid)(TYPE x) {
    const TYPE limit = (TYPE)(0.6931471805599453 * (BIAS - 1));
    const FN(power) power = FN(split_power)(x > limit ? -limit : x < -limit ? limit : -x);
    const TYPE scale = FN(power_of_two)(power.n);
    return x < -limit ? 0 : 1 / (1 + FN(fma)(scale, power.rest, scale));
}

// -- logarithms -------------------------------------------------------------------------------------------------------

// ln x + low, for positive x. x = m·2^k with m near 1, and ln m is the series of the inverse hyperbolic tangent.
INLINE TYPE FN(log_of_positive)(TYPE x, TYPE low) {
    const TYPE normal = (TYPE)((BITS)1 << DIGITS), shifter = (TYPE)1.5 * normal;
    const TYPE smallest = FN(from_bits)((BITS)1 << DIGITS);
    const BITS one = FN(bits)(1), root = FN(bits)((TYPE)0.70710678118654752440), fraction = ((BITS)1 << DIGITS) - 1;
    const BITS moved = FN(bits)(x < smallest ? x * normal : x) + (one - root);
    const BITS exponent = (moved >> DIGITS) - BIAS - (x < smallest ? DIGITS : 0);
    const TYPE k = FN(from_bits)(FN(bits)(shifter) + exponent) - shifter;
    const TYPE f = FN(from_bits)((moved & fraction) + root) - 1, s = f / (2 + f), square = s * s;
    // 2/3·s² + 2/5·s⁴ + ...
#if DIGITS == 23
    TYPE series = 2.0 / 9;
#else
    TYPE series = 2.0 / 21;
    series = FN(fma)(series, square, 2.0 / 19);
    series = FN(fma)(series, square, 2.0 / 17);
    series = FN(fma)(series, square, 2.0 / 15);
    series = FN(fma)(series, square, 2.0 / 13);
    series = FN(fma)(series, square, 2.0 / 11);
    series = FN(fma)(series, square, 2.0 / 9);
#endif
    series = FN(fma)(series, square, (TYPE)(2.0 / 7));
    series = FN(fma)(series, square, (TYPE)(2.0 / 5));
    series = FN(fma)(series, square, (TYPE)(2.0 / 3));
    // ln m = 2s + s·series·s², where 2s = f - f²/2 + s·f²/2 has no rounding error of its own.
    const TYPE half = f * f / 2;
    const TYPE rest = FN(fma)(s, FN(fma)(square, series, half), FN(fma)(k, LN2_LOW, low));
    return FN(fma)(k, LN2_HIGH, f - (half - rest));
}

INLINE TYPE FN(log)(TYPE x) {
    const TYPE log = FN(log_of_positive)(x, 0);
    return x > 0 ? x < INFINITY ? log : x : x == 0 ? -INFINITY : NAN;
}

INLINE TYPE FN(log1p)(TYPE x) {
    const TYPE sum = 1 + x, lost = x - (sum - 1);
    const TYPE log = FN(log_of_positive)(sum, lost / sum);
    return x > -1 ? x < INFINITY ? FN(copysign)(log, x) : x : x == -1 ? -INFINITY : NAN;
}

// ln(1 + e^x); 0 if the result is below the normal numbers.
INLINE TYPE FN(log1pexp)(TYPE x) {
    const TYPE power = FN(exp_nonpositive)(-FN(abs)(x)), sum = 1 + power;
    return (x < 0 ? 0 : x) + FN(log_of_positive)(sum, (power - (sum - 1)) / sum);
}

// -- lengths ----------------------------------------------------------------------------------------------------------

// √(x² + y²), without overflow.
INLINE TYPE FN(hypot)(TYPE x, TYPE y) {
    const TYPE a = FN(abs)(x), b = FN(abs)(y), longer = a > b ? a : b, shorter = a > b ? b : a;
    const TYPE ratio = longer == 0 ? shorter : shorter / longer;
    const TYPE length = longer * FN(sqrt)(FN(fma)(ratio, ratio, 1));
    return a == INFINITY || b == INFINITY ? INFINITY : length;
}

// x / √(x² + y²), without overflow; 0 at the origin.
INLINE TYPE FN(direction)(TYPE x, TYPE y) {
    const TYPE a = FN(abs)(x), b = FN(abs)(y), longer = a > b ? a : b, divisor = longer == 0 ? 1 : longer;
    const TYPE first = longer == INFINITY ? a == INFINITY : a / divisor;
    const TYPE second = longer == INFINITY ? b == INFINITY : b / divisor;
    const TYPE found = FN(copysign)(first / FN(sqrt)(FN(fma)(first, first, second * second)), x);
    return x != x ? x : longer == 0 ? x : found;
}

// -- the error function ------------------------------------------------------------------------------------------------

// Below 1, x + x·(a polynomial of x²); from there on, 1 - e^(a polynomial of |x|, minus x²). Both are minimax
// approximations.
INLINE TYPE FN(erf)(TYPE x) {
    const TYPE size = FN(abs)(x), square = x * x, far = (DIGITS == 23 ? 4 : 6), middle = (1 + far) / 2;
    const TYPE limited = size > far ? far : size, distance = limited - middle;
#if DIGITS == 23
    TYPE near = 7.85384983e-05;
    near = FN(fma)(near, square, (TYPE)-0.00080102027);
    near = FN(fma)(near, square, (TYPE)0.00518833048);
    near = FN(fma)(near, square, (TYPE)-0.0268538146);
    near = FN(fma)(near, square, (TYPE)0.112835852);
    near = FN(fma)(near, square, (TYPE)-0.376126258);
    near = FN(fma)(near, square, (TYPE)0.128379166);
#else
    TYPE near = -7.779462971761597e-10;
    near = FN(fma)(near, square, (TYPE)1.3710988704190523e-08);
    near = FN(fma)(near, square, (TYPE)-1.6206318752969208e-07);
    near = FN(fma)(near, square, (TYPE)1.6447132699786621e-06);
    near = FN(fma)(near, square, (TYPE)-1.4924712439534814e-05);
    near = FN(fma)(near, square, (TYPE)0.0001205529358693695);
    near = FN(fma)(near, square, (TYPE)-0.0008548325929766244);
    near = FN(fma)(near, square, (TYPE)0.005223977606130842);
    near = FN(fma)(near, square, (TYPE)-0.026866170643113415);
    near = FN(fma)(near, square, (TYPE)0.112837916709442);
    near = FN(fma)(near, square, (TYPE)-0.3761263890318352);
    near = FN(fma)(near, square, (TYPE)0.12837916709551256);
#endif
#if DIGITS == 23
    TYPE power = 0.000186374597;
    power = FN(fma)(power, distance, (TYPE)-0.000151994898);
    power = FN(fma)(power, distance, (TYPE)0.00246533313);
    power = FN(fma)(power, distance, (TYPE)-0.0107113145);
    power = FN(fma)(power, distance, (TYPE)0.0561168276);
    power = FN(fma)(power, distance, (TYPE)-0.352693963);
    power = FN(fma)(power, distance, (TYPE)-1.55681789);
#else
    TYPE power = 1.0495970869229545e-12;
    power = FN(fma)(power, distance, (TYPE)1.816535865764888e-11);
    power = FN(fma)(power, distance, (TYPE)1.393082527078124e-10);
    power = FN(fma)(power, distance, (TYPE)6.325940148099328e-10);
    power = FN(fma)(power, distance, (TYPE)1.7753527344834536e-09);
    power = FN(fma)(power, distance, (TYPE)3.0834939091715186e-09);
    power = FN(fma)(power, distance, (TYPE)2.2000119596736874e-09);
    power = FN(fma)(power, distance, (TYPE)-3.4377989539991332e-09);
    power = FN(fma)(power, distance, (TYPE)5.618525320779223e-10);
    power = FN(fma)(power, distance, (TYPE)-9.065607626976083e-08);
    power = FN(fma)(power, distance, (TYPE)5.821859872293341e-07);
    power = FN(fma)(power, distance, (TYPE)-3.8856434822915476e-06);
    power = FN(fma)(power, distance, (TYPE)2.43916687123757e-05);
    power = FN(fma)(power, distance, (TYPE)-0.00014729549485219585);
    power = FN(fma)(power, distance, (TYPE)0.0008736872642439076);
    power = FN(fma)(power, distance, (TYPE)-0.005225658612813869);
    power = FN(fma)(power, distance, (TYPE)0.03324694514077292);
    power = FN(fma)(power, distance, (TYPE)-0.2660995883718971);
    power = FN(fma)(power, distance, (TYPE)-1.8624374021472248);
#endif
    const TYPE rest = FN(exp_nonpositive)(FN(fma)(-limited, limited, power));
    return size < 1 ? FN(fma)(x, near, x) : FN(copysign)(1 - rest, x);
}

// -- by the C library -------------------------------------------------------------------------------------------------

INLINE TYPE FN(sin)(TYPE x) { return LIBM(sin)(x); }
INLINE TYPE FN(cos)(TYPE x) { return LIBM(cos)(x); }
INLINE TYPE FN(pow)(TYPE x, TYPE y) { return LIBM(pow)(x, y); }
INLINE TYPE FN(tan)(TYPE x) { return LIBM(tan)(x); }
INLINE TYPE FN(asin)(TYPE x) { return LIBM(asin)(x); }
INLINE TYPE FN(acos)(TYPE x) { return LIBM(acos)(x); }
INLINE TYPE FN(atan)(TYPE x) { return LIBM(atan)(x); }
INLINE TYPE FN(sinh)(TYPE x) { return LIBM(sinh)(x); }
INLINE TYPE FN(cosh)(TYPE x) { return LIBM(cosh)(x); }
INLINE TYPE FN(asinh)(TYPE x) { return LIBM(asinh)(x); }
INLINE TYPE FN(acosh)(TYPE x) { return LIBM(acosh)(x); }
INLINE TYPE FN(atanh)(TYPE x) { return LIBM(atanh)(x); }
INLINE TYPE FN(log2)(TYPE x) { return LIBM(log2)(x); }
INLINE TYPE FN(log10)(TYPE x) { return LIBM(log10)(x); }
INLINE TYPE FN(atan2)(TYPE x, TYPE y) { return LIBM(atan2)(x, y); }

// x - y·floor(x / y), with the sign of y.
INLINE TYPE FN(remainder)(TYPE x, TYPE y) {
    const TYPE rest = LIBM(fmod)(x, y);
    return rest == 0 ? FN(copysign)(rest, y) : (rest < 0) != (y < 0) ? rest + y : rest;
}

// floor(x / y), from the exact remainder.
INLINE TYPE FN(floor_divide)(TYPE x, TYPE y) {
    const TYPE rest = LIBM(fmod)(x, y), quotient = (x - rest) / y - (rest != 0 && (rest < 0) != (y < 0));
    return y == 0 ? x / y : quotient == 0 ? FN(copysign)(0, x / y) : FN(round)(quotient);
}

#undef TYPE
#undef BITS
#undef FN
#undef LIBM
#undef DIGITS
#undef BIAS
#undef LOWEST
#undef HIGHEST
#undef TINY
#undef LN2_HIGH
#undef LN2_LOW
