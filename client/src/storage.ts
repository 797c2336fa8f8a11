/** Where a chat is kept over a reload: the part of `Storage` that is used, so that any store of texts will do. */
export interface ChatStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** The page's own storage, where there is one that may be used. */
export function pageStorage(): ChatStorage | null {
  try {
    return typeof window === 'undefined' ? null : window.localStorage;
  } catch {
    return null; // a page without an origin, or cookies turned off
  }
}

export function memoryStorage(): ChatStorage {
  const items = new Map<string, string>();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}

/** One value of a storage, as JSON. A storage that fails is one that forgets: a chat goes on without it. */
export class Stored<T> {
  constructor(
    private readonly storage: ChatStorage,
    private readonly key: string,
  ) {}

  load(): T | null {
    try {
      return JSON.parse(this.storage.getItem(this.key) ?? 'null') as T | null;
    } catch {
      return null;
    }
  }

  save(value: T | null): void {
    try {
      if (value === null) this.storage.removeItem(this.key);
      else this.storage.setItem(this.key, JSON.stringify(value));
    } catch {
      // full, or not allowed
    }
  }
}
