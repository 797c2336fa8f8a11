// A Nest application with one route, as its documentation begins: what the framework takes by itself.
import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ready } from './program.mjs';

class HelloController {
  getHello() {
    return 'Hello World!';
  }
}
Controller()(HelloController);
Get()(
  HelloController.prototype,
  'getHello',
  /** @type {PropertyDescriptor} */ (Object.getOwnPropertyDescriptor(HelloController.prototype, 'getHello')),
);

class AppModule {}
Module({ controllers: [HelloController] })(AppModule);

const app = await NestFactory.create(AppModule, { logger: false });
await app.listen(0, '127.0.0.1');
ready({});
