import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';

/** How often a process that stops looks for connections that have become idle. */
const CHECK_INTERVAL_MS = 100;
/** A connection that has sent nothing for so long is no request on its way. */
const SILENT_CONNECTION_MS = 1_000;

/**
 * Closes connections that become idle while the process stops. Node closes those that are idle once, when its server
 * begins to close; one whose last answer, or stream, ends after that would keep the process for the seconds of a
 * keep-alive. And a connection that never sent a byte (browsers and load balancers open some in advance) is not idle to
 * Node: it would keep the process for as long as the client likes.
 */
@Injectable()
export class IdleConnections implements OnModuleInit {
  constructor(
    private readonly host: HttpAdapterHost,
    private readonly shutdown: Shutdown,
  ) {}

  onModuleInit(): void {
    const server = this.host.httpAdapter.getHttpServer() as Server;
    const openedAt = new Map<Socket, number>();
    server.on('connection', (socket) => {
      openedAt.set(socket, performance.now());
      socket.once('close', () => openedAt.delete(socket));
    });
    const closeIdle = (): void => {
      server.closeIdleConnections();
      for (const [socket, since] of openedAt) {
        if (socket.bytesRead === 0 && performance.now() - since > SILENT_CONNECTION_MS) socket.destroy();
      }
    };
    this.shutdown.register(ShutdownPhase.EndStreams, () => {
      const timer = setInterval(closeIdle, CHECK_INTERVAL_MS).unref();
      server.once('close', () => clearInterval(timer));
    });
  }
}
