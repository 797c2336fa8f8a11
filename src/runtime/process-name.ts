import { hostname } from 'node:os';

/** What this process is called in rows and logs: `host/pid`, unique at any time among those of an installation. */
export const PROCESS_NAME = `${hostname().slice(0, 200)}/${process.pid}`;
