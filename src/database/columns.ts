import { p } from '@mikro-orm/core';
import { v7 as uuidv7 } from 'uuid';

/**
 * The columns that every table has. Ids are UUIDv7, made by the process so that a row's id is known before it
 * is stored; times are PostgreSQL's, never a process's, since clocks of processes differ.
 */

export const newId = (): string => uuidv7();

export const idColumn = () => p.uuid().primary().onCreate(newId);

/** A `timestamptz(3)`: milliseconds are what the API shows, so nothing finer may decide an order. */
export const timeColumn = () => p.datetime(3).columnType('timestamptz(3)');

export const createdAtColumn = () => timeColumn().defaultRaw('clock_timestamp()').returning();
