import { TestEnvironment } from 'jest-environment-node';

/**
 * Gives tests the built product, and the schemas that hold for its answers, loaded by Node.js itself, once for all files of a
 * Jest worker: Jest would load their thousand modules anew for each file, which takes seconds of the processor, and with them
 * whatever V8 had compiled.
 */
export default class ProductEnvironment extends TestEnvironment {
  async setup() {
    await super.setup();
    this.global.importProduct = (path) => import(`../../dist/src/${path}`);
    this.global.importSupport = (path) => import(`./${path}`);
  }
}
