// A chat as LangGraph.js' documentation begins: one node that asks a model, on the messages of a thread.
import { ChatOpenAI } from '@langchain/openai';
import { END, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph';

const model = new ChatOpenAI({
  model: process.env.MODEL,
  apiKey: 'none',
  streaming: true,
  configuration: { baseURL: process.env.MODEL_URL },
});

export const graph = new StateGraph(MessagesAnnotation)
  .addNode('model', async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
  .addEdge(START, 'model')
  .addEdge('model', END)
  .compile();
