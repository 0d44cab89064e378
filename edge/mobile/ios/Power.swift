// Not run on a device, and not compiled: no Swift compiler with Apple's frameworks was at hand.
import CoreML

/// What an answer may cost.
public enum Power: Sendable {
    /// The battery first: the Neural Engine where there is one, never the GPU.
    case lowPower
    /// The next answer first: whatever is fastest, the GPU included.
    case fastSingleAnswer
    /// Many answers in a row without heat: the Neural Engine, specialised once for this model.
    case sustainedSpeed
}

/// The seam for tokenisation: text to ids, by the export's tokenizer.json and with the ids that it gives, [CLS] and
/// [SEP] included where it adds them. Not padded. The package `swift-transformers` reads such a file; compare what it
/// gives with the Rust library `tokenizers`, sentence by sentence, before it is believed.
public protocol Tokenizer: Sendable {
    func encode(_ text: String) -> [Int32]
}

/// The best label, and the logits in the order of labels.json.
public struct Answer: Sendable {
    public let label: String
    public let logits: [Float]

    init(logits: [Float], labels: [String]) throws {
        guard logits.count == labels.count, let best = logits.indices.max(by: { logits[$0] < logits[$1] }) else {
            throw IntentError.labels(expected: labels.count, found: logits.count)
        }
        self.label = labels[best]
        self.logits = logits
    }
}

public enum IntentError: Error, Equatable {
    /// The tokenizer found nothing in the text: ask for the sentence again.
    case noTokens(String)
    /// Model and labels are not of one export: take both from the same folder.
    case labels(expected: Int, found: Int)
    /// The model has no output of that name: it is no file of such an export.
    case noOutput(String)
}

extension Power {
    /// For a Core ML package. `.cpuAndNeuralEngine` is a wish: Core ML runs on the CPU what the engine cannot.
    public var configuration: MLModelConfiguration {
        let configuration = MLModelConfiguration()
        switch self {
        case .lowPower, .sustainedSpeed:
            configuration.computeUnits = .cpuAndNeuralEngine
        case .fastSingleAnswer:
            configuration.computeUnits = .all
            configuration.allowLowPrecisionAccumulationOnGPU = true
        }
        if #available(iOS 18.0, macOS 15.0, *), self != .lowPower {
            // Costs time and memory when the model is loaded, once, for less with each sentence.
            configuration.optimizationHints.specializationStrategy = .fastPrediction
        }
        if #available(iOS 17.4, macOS 14.4, *) {
            configuration.optimizationHints.reshapeFrequency = .infrequent
        }
        return configuration
    }

    /// The same for ONNX Runtime's Core ML provider; its options are strings.
    public var providerOptions: [String: String] {
        var options = ["ModelFormat": "MLProgram", "RequireStaticInputShapes": "1"]
        switch self {
        case .lowPower:
            options["MLComputeUnits"] = "CPUAndNeuralEngine"
        case .sustainedSpeed:
            options["MLComputeUnits"] = "CPUAndNeuralEngine"
            options["SpecializationStrategy"] = "FastPrediction"
        case .fastSingleAnswer:
            options["MLComputeUnits"] = "ALL"
            options["SpecializationStrategy"] = "FastPrediction"
            options["AllowLowPrecisionAccumulationOnGPU"] = "1"
        }
        return options
    }
}
