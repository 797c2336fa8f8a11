import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTestDatabase, type TestDatabase } from '../../support/database.js';
import {
  createInstallation,
  type Installation,
  launchReady,
  type Program,
  type RunningRole,
} from '../../support/program.js';
import { vouch } from '../../support/identity.js';
import { type RawProvider, startRawProvider } from '../../support/raw-provider.js';
import { ApiClient } from '../../support/api-client.js';
import { type Gate, startGate } from './gate.js';

/** The product in processes that can be killed, with the model's far side and the way that clients take. */
export class Stage {
  private readonly programs = new Set<Program>();
  private apis: RunningRole[] = [];
  private workers: RunningRole[] = [];

  private constructor(
    private readonly installation: Installation,
    private readonly database: TestDatabase,
    readonly provider: RawProvider,
    readonly gate: Gate,
  ) {}

  static async start(backend: 'postgres' | 'redis'): Promise<Stage> {
    const database = await createTestDatabase();
    const provider = await startRawProvider();
    const cwd = mkdtempSync(join(tmpdir(), 'assistly-clients-'));
    const installation = createInstallation(cwd, {
      databaseUrl: database.url,
      backend,
      modelUrl: provider.baseUrl,
    });
    Object.assign(installation.env, {
      LIMITS_ENABLED: 'false', // all clients come from one address
      LLM_IDLE_TIMEOUT_MS: '300000', // the provider holds answers back for as long as a busy machine takes
    });
    const stage = new Stage(installation, database, provider, await startGate());
    try {
      await Promise.all([stage.addApi(), stage.addApi(), stage.addWorker(), stage.addWorker()]);
    } catch (error) {
      await stage.close();
      throw error;
    }
    return stage;
  }

  /** A chatbot whose model makes the provider behave in a certain way, and who a person is to it. */
  async createChatbot(model: string): Promise<{ chatbotId: string; identity: string }> {
    const { id } = await this.owner().createChatbot({ name: 'Bakery', model });
    const { secret } = (await this.owner().post(`/v1/chatbots/${id}/identity-secret`)).body;
    return { chatbotId: id, identity: await vouch(secret, id) };
  }

  async openSession(chatbotId: string): Promise<{ id: string; token: string }> {
    const { session, token } = await new ApiClient(this.gate.url).openSession(chatbotId);
    return { id: session.id, token };
  }

  /** The ids of all sessions of a chatbot. */
  async sessionsOf(chatbotId: string): Promise<string[]> {
    const { body } = await this.owner().get(`/v1/chatbots/${chatbotId}/sessions`);
    return body.data.map(({ id }: { id: string }) => id);
  }

  owner(): ApiClient {
    return new ApiClient(this.gate.url, this.installation.ownerToken);
  }

  /** Kills the api that all connections lead to. Another is there, and a new one comes. */
  async killApi(): Promise<void> {
    const [killed] = this.apis.splice(0, 1);
    killed!.program.signal('SIGKILL');
    await killed!.program.exited;
    this.gate.targets = this.apis.map(({ url }) => url);
    await this.addApi();
  }

  /** Kills the workers, which make all the answers, and starts others. */
  async killWorker(): Promise<void> {
    for (const { program } of this.workers.splice(0)) {
      program.signal('SIGKILL');
      await program.exited;
    }
    await Promise.all([this.addWorker(), this.addWorker()]);
  }

  async close(): Promise<void> {
    await this.gate.close();
    await Promise.all(
      [...this.programs].map((program) => {
        program.signal('SIGKILL'); // all that they hold is of this stage
        return program.exited;
      }),
    );
    await this.provider.close();
    await this.database.drop();
    rmSync(this.installation.cwd, { recursive: true, force: true, maxRetries: 5 });
  }

  private async addApi(): Promise<void> {
    this.apis.push(await launchReady(this.installation, 'api', {}, (program) => this.programs.add(program)));
    this.gate.targets = this.apis.map(({ url }) => url);
  }

  private async addWorker(): Promise<void> {
    this.workers.push(
      await launchReady(this.installation, 'worker', {}, (program) => this.programs.add(program)),
    );
  }
}
