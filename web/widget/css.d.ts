/** The build gives the text of a style sheet, minified. */
declare module '*.css' {
  const text: string;
  export default text;
}
