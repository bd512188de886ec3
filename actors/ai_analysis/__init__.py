"""The AIAnalysis controller: one investigation by the HolmesGPT-API, and the approval policy's verdict on what it selected."""
