import { checkedFetch } from './contract.js';

/** What a process tells Prometheus. */
export interface Scrape {
  status: number;
  headers: Headers;
  text: string;
  /** Every series, as it is written: `name{label="value"}`. */
  series: Map<string, number>;
  /** The value of a series, or the sum of those that have these labels among others; undefined where there is none. */
  value(name: string, labels?: Record<string, string>): number | undefined;
}

export async function scrape(url: string, authorization?: string): Promise<Scrape> {
  const response = await checkedFetch(`${url}/metrics`, { headers: authorization ? { authorization } : {} });
  const text = await response.text();
  const series = new Map<string, number>();
  for (const line of response.ok ? text.split('\n') : []) {
    const [, name, value] = /^([^#\s][^ ]*(?:\{.*\})?) (\S+)$/.exec(line) ?? [];
    if (name !== undefined) series.set(name, Number(value));
  }
  return {
    status: response.status,
    headers: response.headers,
    text,
    series,
    value(name, labels = {}) {
      const found = [...series].filter(
        ([key]) =>
          (key === name || key.startsWith(`${name}{`)) &&
          Object.entries(labels).every(([label, value]) => key.includes(`${label}="${value}"`)),
      );
      return found.length === 0 ? undefined : found.reduce((sum, [, value]) => sum + value, 0);
    },
  };
}
