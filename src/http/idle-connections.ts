import type { Server } from 'node:http';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';

/** How often a process that stops looks for connections that have become idle. */
const CHECK_INTERVAL_MS = 100;

/**
 * Closes connections that become idle while the process stops. Node closes those that are idle once, when its server
 * begins to close; one whose last answer, or stream, ends after that would keep the process for the seconds of a
 * keep-alive.
 */
@Injectable()
export class IdleConnections implements OnModuleInit {
  constructor(
    private readonly host: HttpAdapterHost,
    private readonly shutdown: Shutdown,
  ) {}

  onModuleInit(): void {
    this.shutdown.register(ShutdownPhase.EndStreams, () => {
      const server = this.host.httpAdapter.getHttpServer() as Server;
      const timer = setInterval(() => server.closeIdleConnections(), CHECK_INTERVAL_MS).unref();
      server.once('close', () => clearInterval(timer));
    });
  }
}
