import { jest } from '@jest/globals';

const { Logger } = await importProduct<typeof import('@nestjs/common')>(
  '../../node_modules/@nestjs/common/index.js',
);

/** A line as the product's code asks for it, whatever LOG_LEVEL is. */
interface LoggedLine {
  event: unknown;
  message: string;
  /** All that the line says beside its message. */
  fields: Record<string, unknown>;
}

/** Keeps the warnings and errors of the products that run in this process, instead of having them written. */
export class ProductLog {
  readonly lines: LoggedLine[] = [];
  private readonly spies = (['warn', 'error'] as const).map((level) =>
    jest.spyOn(Logger.prototype, level).mockImplementation((fields: unknown, message?: unknown) => {
      const known = typeof fields === 'object' && fields !== null ? { ...fields } : {};
      const event = 'event' in known ? known.event : null;
      this.lines.push({ event, message: String(message ?? fields), fields: known });
    }),
  );

  stop(): void {
    for (const spy of this.spies) spy.mockRestore();
  }
}
