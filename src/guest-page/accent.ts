/**
 * The colours that a chatbot's accent becomes, on a light ground and on a dark one. Each is made readable: an accent whose
 * contrast is below that of WCAG AA is darkened or lightened until it is enough, in OKLCH, which keeps its hue.
 */

/** The page's accent where its chatbot has none. */
const DEFAULT_ACCENT = '#2f6fed';
const LIGHT_GROUND = '#ffffff';
const DARK_GROUND = '#15181c';
const LIGHT_TEXT = '#1b1f24';
const DARK_TEXT = '#e8eaed';
/** WCAG 2.2, 1.4.3, for text of usual size. */
const MIN_CONTRAST = 4.5;
const STEP = 0.01;

export interface Accent {
  /** Of links, icons and what can be pressed. */
  accent: string;
  /** Of text on it. */
  onAccent: string;
  /** The ground of the guest's own messages. */
  tint: string;
}

type Triple = [number, number, number];

export function accentOf(color: string | null): { light: Accent; dark: Accent } {
  const [lightness, chroma, hue] = toOklch(color ?? DEFAULT_ACCENT);
  return {
    light: {
      accent: readable(lightness, chroma, hue, LIGHT_GROUND, -STEP),
      onAccent: LIGHT_GROUND,
      tint: readable(0.94, Math.min(chroma, 0.045), hue, LIGHT_TEXT, STEP),
    },
    dark: {
      accent: readable(lightness, chroma, hue, DARK_GROUND, STEP),
      onAccent: DARK_GROUND,
      tint: readable(0.34, Math.min(chroma, 0.07), hue, DARK_TEXT, -STEP),
    },
  };
}

/** As a style sheet. */
export function accentStyle(color: string | null): string {
  const { light, dark } = accentOf(color);
  const rule = ({ accent, onAccent, tint }: Accent): string =>
    `:root{--accent:${accent};--on-accent:${onAccent};--tint:${tint}}`;
  return `${rule(light)}@media(prefers-color-scheme:dark){${rule(dark)}}`;
}

function readable(lightness: number, chroma: number, hue: number, beside: string, step: number): string {
  for (let now = lightness; now > 0 && now < 1; now += step) {
    const color = toHex([now, chroma, hue]);
    if (contrast(color, beside) >= MIN_CONTRAST) return color;
  }
  return step < 0 ? '#000000' : '#ffffff';
}

/** WCAG's ratio of two colours. */
export function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].toSorted((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(hex: string): number {
  const [red, green, blue] = toLinear(hex);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function toLinear(hex: string): Triple {
  return [1, 3, 5].map((at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Triple;
}

/** By Björn Ottosson's matrices of Oklab. */
function toOklch(hex: string): Triple {
  const [red, green, blue] = toLinear(hex);
  const l = Math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue);
  const m = Math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue);
  const s = Math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue);
  const a = 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s;
  const b = 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s;
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, Math.hypot(a, b), Math.atan2(b, a)];
}

/** What the screen cannot show loses chroma until it can. */
function toHex([lightness, chroma, hue]: Triple): string {
  for (let now = chroma; ; now = now < 0.002 ? 0 : now * 0.95) {
    const a = now * Math.cos(hue);
    const b = now * Math.sin(hue);
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
    const linear = [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ];
    if (now > 0 && linear.some((value) => value < -0.001 || value > 1.001)) continue;
    return `#${linear.map(toByte).join('')}`;
  }
}

function toByte(linear: number): string {
  const value = linear <= 0.0031308 ? 12.92 * linear : 1.055 * Math.max(0, linear) ** (1 / 2.4) - 0.055;
  return Math.round(Math.min(1, Math.max(0, value)) * 255)
    .toString(16)
    .padStart(2, '0');
}
