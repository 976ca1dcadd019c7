/**
 * The expressions of conformance cases: integers of any size, names, `+ - * / % ( )`, comparisons, `&&` and `||`.
 */

/** An expression that cannot be read or that names something unknown. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError';
}

/** What names stand for. */
export type Names = ReadonlyMap<string, bigint>;

const TOKEN =
  /\s*(0x[0-9a-fA-F]+|\d+|[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?|==|!=|<=|>=|&&|\|\||[-+*/%()<>])/y;

/** Operators from the loosest binding to the tightest. */
const LEVELS: readonly (readonly string[])[] = [
  ['||'],
  ['&&'],
  ['==', '!=', '<', '<=', '>', '>='],
  ['+', '-'],
  ['*', '/', '%'],
];

/** Quotient rounded down, as the cases mean it. */
function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient;
}

function apply(operator: string, a: bigint, b: bigint): bigint {
  switch (operator) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return a * b;
    case '/': return floorDivide(a, b);
    case '%': return a - floorDivide(a, b) * b;
    case '&&': return BigInt(a !== 0n && b !== 0n);
    case '||': return BigInt(a !== 0n || b !== 0n);
    case '==': return BigInt(a === b);
    case '!=': return BigInt(a !== b);
    case '<': return BigInt(a < b);
    case '<=': return BigInt(a <= b);
    case '>': return BigInt(a > b);
    default: return BigInt(a >= b);
  }
}

class Parser {
  readonly #text: string;
  readonly #names: Names;
  readonly #tokens: string[] = [];
  #at = 0;

  constructor(text: string, names: Names) {
    this.#text = text;
    this.#names = names;
    const end = text.trimEnd().length;
    TOKEN.lastIndex = 0;
    while (TOKEN.lastIndex < end) {
      const match = TOKEN.exec(text);
      if (!match) throw this.#bad();
      this.#tokens.push(match[1]!);
    }
  }

  value(): bigint {
    const value = this.#binary(0);
    if (this.#at !== this.#tokens.length) throw this.#bad();
    return value;
  }

  #bad(): ExpressionError {
    return new ExpressionError(`bad expression '${this.#text}'`);
  }

  #binary(level: number): bigint {
    const operators = LEVELS[level];
    if (!operators) return this.#unary();
    let left = this.#binary(level + 1);
    for (let operator = this.#tokens[this.#at]; operator !== undefined && operators.includes(operator); operator = this.#tokens[this.#at]) {
      this.#at++;
      const right = this.#binary(level + 1);
      if ((operator === '/' || operator === '%') && right === 0n) throw new ExpressionError(`division by zero in '${this.#text}'`);
      left = apply(operator, left, right);
    }
    return left;
  }

  #unary(): bigint {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw this.#bad();
    if (token === '-') return -this.#unary();
    if (token === '(') {
      const value = this.#binary(0);
      if (this.#tokens[this.#at++] !== ')') throw this.#bad();
      return value;
    }
    if (/^\d/.test(token)) return BigInt(token);
    if (!/^[A-Za-z_]/.test(token)) throw this.#bad();
    const value = this.#names.get(token);
    if (value === undefined) throw new ExpressionError(`unknown name '${token}' in '${this.#text}'`);
    return value;
  }
}

/**
 * The value of an expression.
 *
 * @throws ExpressionError where it is malformed or names something unknown
 */
export function evaluate(text: string, names: Names): bigint {
  return new Parser(text, names).value();
}

/** The names an expression mentions. */
export function namesIn(text: string): string[] {
  return [...new Set(text.match(/[A-Za-z_][A-Za-z0-9_.]*/g) ?? [])];
}
