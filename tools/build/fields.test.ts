import { describe, expect, it } from 'vitest';
import { withoutEmptyFields } from './fields.mjs';

describe('fields without a value', () => {
  it('are left out, and lines stay where they were', () => {
    expect(withoutEmptyFields('class C {\n  /** Bytes. */\n  size;\n  start = 0;\n  end;\n  constructor(size) { this.size = size; }\n}')).toBe(
      'class C {\n  /** Bytes. */\n  \n  start = 0;\n  \n  constructor(size) { this.size = size; }\n}',
    );
  });

  it('stay where they are private, static, or named by an expression', () => {
    const code = 'class C {\n  #size;\n  static all;\n  [name];\n}';
    expect(withoutEmptyFields(code)).toBe(code);
  });

  it('are those of inner classes, too', () => {
    expect(withoutEmptyFields('const make = () => class extends C { a; b = class { c; }; };')).toBe('const make = () => class extends C {  b = class {  }; };');
  });
});
